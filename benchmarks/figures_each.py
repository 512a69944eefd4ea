"""A peer of benchmarks.predict: batch inference as the reference project does it, one image and one figure at a time.

    python -m benchmarks.figures_each FOLDER OUT.csv --backbone efficientnet_b3

Written anew from what is known of its recipe: images squashed to 299 pixels, the head of three layers, a matplotlib
figure of each picture with its probabilities, a table of names and answers. Random weights: they cost what trained ones
do.
"""

import argparse
import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from PIL import Image
from torchvision import transforms

from planetlib.model import Network


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("out")
    parser.add_argument("--backbone", choices=("efficientnet_lite0", "efficientnet_b3"), default="efficientnet_b3")
    options = parser.parse_args(arguments)
    size = {"efficientnet_lite0": 224, "efficientnet_b3": 299}[options.backbone]
    transform = transforms.Compose([transforms.Resize((size, size)), transforms.ToTensor()])
    paths = sorted(path for path in Path(options.folder).rglob("*") if path.is_file())
    names = sorted({path.parent.name for path in paths})
    model = Network(options.backbone, len(names), "reference", "random").eval()
    out, rows = Path(options.out), []
    for number, path in enumerate(paths):
        image = Image.open(path).convert("RGB")
        with torch.no_grad():
            shares = model(transform(image)[None]).softmax(1)[0]
        answer, share = names[shares.argmax()], shares.max().item()
        figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5))
        left.imshow(image)
        left.set_title(f"{answer} {share:.2%}")
        left.axis("off")
        right.barh(names, shares.tolist())
        figure.tight_layout()
        figure.savefig(out.with_name(f"{number:05d}.png"))
        plt.close(figure)
        rows.append([path.name, answer, f"{share:.2%}"])
    with open(out, "w", newline="") as file:
        csv.writer(file).writerows([["filename", "prediction", "confidence"], *rows])


if __name__ == "__main__":
    main()
