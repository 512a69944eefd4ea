"""Peers of `benchmarks.predict`: batch inference as others do it, from a folder of class folders to a CSV.

    python -m benchmarks.predictors ordinary FOLDER OUT.csv --backbone efficientnet_lite0 [--fast]
    python -m benchmarks.predictors figures FOLDER OUT.csv --backbone efficientnet_b3

`ordinary` is an ordinary torchvision script. `figures` is the reference project's way, written anew from what is known
of its recipe: one image at a time, squashed to 299 pixels, the head of three layers, a matplotlib figure of each
picture with its probabilities. Random weights: they cost what trained ones do.
"""

import csv
from pathlib import Path

from benchmarks.tables import make_parser


def predict_ordinarily(folder: str, out: str, backbone: str, size: int | None = None, fast: bool = False) -> None:
    """Batches of 32, decoded by two processes; `fast`: channels last and bfloat16."""
    import timm
    import torch
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.models import efficientnet_b3
    from torchvision.transforms import v2

    size = size or {"efficientnet_lite0": 224, "efficientnet_b3": 300}[backbone]
    steps = [v2.ToImage(), v2.Resize(size), v2.CenterCrop(size), v2.ToDtype(torch.float32, scale=True)]
    steps += [v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    images = ImageFolder(folder, v2.Compose(steps))
    if backbone == "efficientnet_b3":
        model = efficientnet_b3(num_classes=len(images.classes))
    else:
        model = timm.create_model("tf_efficientnet_lite0", num_classes=len(images.classes))
    layout = torch.channels_last if fast else torch.contiguous_format
    model = model.eval().to(memory_format=layout)
    shares = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=fast):
        for batch, _ in DataLoader(images, batch_size=32, num_workers=2):
            shares += model(batch.contiguous(memory_format=layout)).float().softmax(1).tolist()
    names = [images.classes[row.index(max(row))] for row in shares]
    rows = [[path, name, *row] for (path, _), name, row in zip(images.samples, names, shares, strict=True)]
    write_rows(out, [["path", "predicted", *images.classes], *rows])


def predict_with_figures(folder: str, out: str, backbone: str) -> None:
    """One image and one figure at a time; the figures lie beside the CSV."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import torch
    from PIL import Image
    from torchvision import transforms

    from planetlib.model import Network

    size = {"efficientnet_lite0": 224, "efficientnet_b3": 299}[backbone]
    transform = transforms.Compose([transforms.Resize((size, size)), transforms.ToTensor()])
    paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    names = sorted({path.parent.name for path in paths})
    model = Network(backbone, len(names), "reference", "random").eval()
    rows = []
    for number, path in enumerate(paths):
        image = Image.open(path).convert("RGB")
        with torch.no_grad():
            shares = model(transform(image)[None]).softmax(1)[0]
        answer, share = names[shares.argmax()], f"{shares.max().item():.2%}"
        figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5))
        left.imshow(image)
        left.set_title(f"{answer} {share}")
        left.axis("off")
        right.barh(names, shares.tolist())
        figure.tight_layout()
        figure.savefig(Path(out).with_name(f"{number:05d}.png"))
        plt.close(figure)
        rows.append([path.name, answer, share])
    write_rows(out, [["filename", "prediction", "confidence"], *rows])


def write_rows(out: str, rows: list[list]) -> None:
    with open(out, "w", newline="") as file:
        csv.writer(file).writerows(rows)


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("way", choices=("ordinary", "figures"))
    parser.add_argument("folder")
    parser.add_argument("out")
    parser.add_argument("--backbone", choices=("efficientnet_lite0", "efficientnet_b3"), default="efficientnet_lite0")
    parser.add_argument("--size", type=int, help="side of the square (default: the backbone's own)")
    parser.add_argument("--fast", action="store_true", help="channels last and bfloat16")
    options = parser.parse_args(arguments)
    if options.way == "figures":
        predict_with_figures(options.folder, options.out, options.backbone)
    else:
        predict_ordinarily(options.folder, options.out, options.backbone, options.size, options.fast)


if __name__ == "__main__":
    main()
