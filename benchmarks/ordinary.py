"""A peer of benchmarks.predict: batch inference as an ordinary torchvision script does it.

    python -m benchmarks.ordinary FOLDER OUT.csv --backbone efficientnet_lite0 [--fast]

FOLDER is one of class folders. Random weights: they cost what trained ones do.
"""

import argparse
import csv

import torch
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.models import efficientnet_b3
from torchvision.transforms import v2


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("out")
    parser.add_argument("--backbone", choices=("efficientnet_lite0", "efficientnet_b3"), default="efficientnet_lite0")
    parser.add_argument("--size", type=int, help="side of the square (default: the backbone's own)")
    parser.add_argument("--fast", action="store_true", help="channels last and bfloat16")
    options = parser.parse_args(arguments)
    size = options.size or {"efficientnet_lite0": 224, "efficientnet_b3": 300}[options.backbone]
    transform = v2.Compose([
        v2.ToImage(),
        v2.Resize(size),
        v2.CenterCrop(size),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])  # fmt: skip
    images = ImageFolder(options.folder, transform)
    if options.backbone == "efficientnet_b3":
        model = efficientnet_b3(num_classes=len(images.classes))
    else:
        import timm

        model = timm.create_model("tf_efficientnet_lite0", num_classes=len(images.classes))
    model.eval()
    layout = torch.channels_last if options.fast else torch.contiguous_format
    model = model.to(memory_format=layout)
    rows = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=options.fast):
        for batch, _ in DataLoader(images, batch_size=32, num_workers=2):
            rows += model(batch.contiguous(memory_format=layout)).float().softmax(1).tolist()
    with open(options.out, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "predicted", *images.classes])
        for (path, _), row in zip(images.samples, rows, strict=True):
            writer.writerow([path, images.classes[row.index(max(row))], *row])


if __name__ == "__main__":
    main()
