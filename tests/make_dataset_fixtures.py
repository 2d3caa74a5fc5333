#!/usr/bin/env python3
"""Writes tests/fixtures/datasets: tiny data sets, each in the layout of a real one, with the
oddities that the real ones have. Needs Python 3.9 and nothing else; writes the same bytes always.

    python3 tests/make_dataset_fixtures.py

What tests/integration/datasets.rs expects of them is written here, beside each.
"""

import io
import json
import shutil
import struct
import tarfile
import zlib
from pathlib import Path

ROOT = Path(__file__).parent / "fixtures" / "datasets"


def jpeg(level: int) -> bytes:
    """A baseline gray JPEG of 8x8 pixels, all of one value near 128 + level (-128..127)."""
    # Code lengths of the DC table: sizes 0..8 as nine codes of four bits; AC: end of block only.
    dc = bytes([0, 0, 0, 9] + [0] * 12) + bytes(range(9))
    ac = bytes([1] + [0] * 15) + bytes([0])
    value = max(-255, min(255, level))  # quantised by 8: DC = 8 * mean / 8
    size = abs(value).bit_length()
    bits = format(size, "04b")
    if size:
        bits += format(value if value > 0 else value + (1 << size) - 1, f"0{size}b")
    bits += "0"
    bits += "1" * (-len(bits) % 8)
    scan = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)).replace(
        b"\xff", b"\xff\x00"
    )

    def segment(marker: int, data: bytes) -> bytes:
        return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data

    return (
        b"\xff\xd8"
        + segment(0xDB, b"\0" + bytes([8] * 64))
        + segment(0xC0, struct.pack(">BHHB", 8, 8, 8, 1) + bytes([1, 0x11, 0]))
        + segment(0xC4, b"\x00" + dc)
        + segment(0xC4, b"\x10" + ac)
        + segment(0xDA, bytes([1, 1, 0, 0, 63, 0]))
        + scan
        + b"\xff\xd9"
    )


def write(path: Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def npy(numbers) -> bytes:
    """What numpy.save writes of int64 `[N]`."""
    head = f"{{'descr': '<i8', 'fortran_order': False, 'shape': ({len(numbers)},), }}"
    head += " " * (-(len(head) + 11) % 64) + "\n"
    body = struct.pack(f"<{len(numbers)}q", *numbers)
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + body


def element(kind: int, data: bytes) -> bytes:
    """One element of a MAT file; short data go into the tag, as MATLAB does it."""
    if 0 < len(data) <= 4:
        return struct.pack("<HH", kind, len(data)) + data.ljust(4, b"\0")
    return struct.pack("<II", kind, len(data)) + data + b"\0" * (-len(data) % 8)


def mat(variables, compressed: bool) -> bytes:
    """A MAT v5 file of row vectors: (name, struct format, MATLAB class, MAT type, numbers)."""
    out = b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(124, b" ") + b"\x00\x01IM"
    for name, fmt, array_class, kind, numbers in variables:
        body = (
            element(6, struct.pack("<II", array_class, 0))
            + element(5, struct.pack("<ii", 1, len(numbers)))
            + element(1, name.encode())
            + element(kind, struct.pack(f"<{len(numbers)}{fmt}", *numbers))
        )
        matrix = struct.pack("<II", 14, len(body)) + body
        if compressed:
            packed = zlib.compress(matrix)
            matrix = struct.pack("<II", 15, len(packed)) + packed
        out += matrix
    return out


def tar(members) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def karpathy() -> None:
    """Six images: COCO's `filepath`, `restval`, seven captions, a missing image, a blank caption."""
    images = []
    for i, split in enumerate(["train", "restval", "val", "test", "test", "test"]):
        folder = "train2014" if split == "train" else "val2014"
        count = 7 if i == 3 else 5
        sentences = [
            {"raw": f"Caption {j} of image {i}.", "tokens": ["caption"], "imgid": i, "sentid": 10 * i + j}
            for j in range(count)
        ]
        if i == 5:
            sentences[1]["raw"] = " "
        images.append(
            {
                "filepath": folder,
                "filename": f"COCO_{folder}_{i + 1:012}.jpg",
                "imgid": i,
                "cocoid": i + 1,
                "split": split,
                "sentids": [s["sentid"] for s in sentences],
                "sentences": sentences,
            }
        )
        if i != 4:
            write(ROOT / "karpathy" / folder / images[-1]["filename"], jpeg(20 * i))
    write(
        ROOT / "karpathy" / "dataset_coco.json",
        json.dumps({"images": images, "dataset": "coco"}),
    )


def coco() -> None:
    """COCO's annotations with PCME's lists. Images 1, 2 (train), 3..6 (val); image 3 is restval,
    4 dev, 5 and 6 test. Image 5 has six captions of which the lists name five; one annotation has
    an image that is not listed; the train list names one caption that is nowhere."""
    lists = {"train": [999_999], "restval": [], "dev": [], "test": []}
    split = {1: "train", 2: "train", 3: "restval", 4: "dev", 5: "test", 6: "test"}
    for part, ids in [("train2014", [1, 2]), ("val2014", [3, 4, 5, 6])]:
        images, annotations = [], []
        for i in ids:
            name = f"COCO_{part}_{i:012}.jpg"
            images.append({"id": i, "file_name": name, "height": 8, "width": 8, "license": 3})
            write(ROOT / "coco" / "images" / part / name, jpeg(10 * i))
            for j in range(6 if i == 5 else 5):
                caption_id = 100 * i + j
                text = f"Caption {j} of image {i}."
                annotations.append({"image_id": i, "id": caption_id, "caption": text})
                if j < 5:
                    lists[split[i]].append(caption_id)
        # COCO's annotations are not ordered by image.
        annotations.sort(key=lambda annotation: annotation["id"] % 100)
        if part == "val2014":
            annotations.append({"image_id": 77, "id": 7700, "caption": "Nobody's caption."})
        content = {"info": {}, "images": images, "licenses": [], "annotations": annotations}
        write(ROOT / "coco" / "annotations" / f"captions_{part}.json", json.dumps(content))
    for name, ids in lists.items():
        write(ROOT / "coco" / "annotations" / f"coco_{name}_ids.npy", npy(ids))


def plausible() -> None:
    """ECCV Caption's and CxC's files about karpathy's test split, whose images 4 and 6 are on disk:
    image 5 and caption 51 are missing there, and 999 and 9990 are nowhere. Of CxC's ratings those
    from 3 on are matches."""
    folder = ROOT / "plausible"
    first, last = list(range(30, 37)), [50, 51, 52, 53, 54]
    images = {4: [35, 30, 52], 5: [40], 6: [*last, 33], 999: [30]}
    write(folder / "eccv_image_to_caption.json", json.dumps(images, separators=(",", ":")))
    captions = {31: [4], 50: [6, 4], 51: [6], 53: [5, 999]}
    write(folder / "eccv_caption_to_image.json", json.dumps(captions, separators=(",", ":")))
    rows = ["caption,image,agg_score,sampling_method"]
    ratings = [(c, 4, 4.97, "original") for c in first] + [(c, 6, 4.2, "original") for c in last]
    ratings += [(30, 6, 3.0, "intrasim"), (52, 4, 2.99, "intrasim"), (9990, 4, 5.0, "intrasim")]
    ratings[2] = (32, 4, 1.4, "original")
    for caption, image, rating, method in ratings:
        name = f"COCO_val2014_{image:012}.jpg"
        rows.append(f"COCO_val2014:sentid:{caption},{name},{rating},c2i_{method}")
    write(folder / "sits_test.csv", "\n".join(rows) + "\n")


def precomp() -> None:
    """VSE++: `train` has one id for each line, the others one for five; `test` (image 4) is part of
    `testall` (images 4, 5); one blank line; CRLF and a BOM in `dev`."""
    folder = ROOT / "precomp" / "coco_precomp"
    mapping = {}
    for i in range(1, 6):
        mapping[str(i)] = f"val2014/COCO_val2014_{i:012}.jpg"
        write(ROOT / "precomp" / "images" / mapping[str(i)], jpeg(15 * i))
    write(ROOT / "precomp" / "id_mapping.json", json.dumps(mapping))

    def lines(i):
        return [f"caption {j} of image {i}" for j in range(5)]

    train = lines(1) + lines(2)
    train[7] = ""
    write(folder / "train_caps.txt", "\n".join(train) + "\n")
    write(folder / "train_ids.txt", "\n".join(["1"] * 5 + ["2"] * 5) + "\n")
    write(folder / "dev_caps.txt", b"\xef\xbb\xbf" + "\r\n".join(lines(3)).encode() + b"\r\n")
    write(folder / "dev_ids.txt", "3\r\n")
    write(folder / "test_caps.txt", "\n".join(lines(4)))
    write(folder / "test_ids.txt", "4\n")
    write(folder / "testall_caps.txt", "\n".join(lines(4) + lines(5)) + "\n")
    write(folder / "testall_ids.txt", "4\n5\n")


def flickr() -> None:
    """Four images; the header and spaces of Kaggle's file; one line without its second `|`; one
    caption in Windows-1252; image 1003 has six captions; the test list names an image that is
    nowhere."""
    rows = [b"image_name| comment_number| comment"]
    for i in range(1001, 1005):
        for j in range(6 if i == 1003 else 5):
            bar = b"   " if (i, j) == (1002, 4) else b"| "
            text = f"A caption {j} of {i} .".encode()
            if (i, j) == (1004, 2):
                text = "A café scene .".encode("cp1252")
            rows.append(f"{i}.jpg| {j}".encode() + bar + text)
        write(ROOT / "flickr30k" / "flickr30k_images" / f"{i}.jpg", jpeg(i - 1000))
    write(ROOT / "flickr30k" / "results.csv", b"\n".join(rows) + b"\n")
    write(ROOT / "flickr30k" / "flickr30k_train.txt", "1001\n1002\n")
    write(ROOT / "flickr30k" / "flickr30k_val.txt", "1003\n")
    write(ROOT / "flickr30k" / "flickr30k_test.txt", "1004\n4242\n")
    tokens = [f"{i}.jpg#{j}\tA caption {j} of {i} ." for i in (1, 2) for j in range(5)]
    write(ROOT / "flickr30k_token" / "results_20130124.token", "\n".join(tokens) + "\n")
    for i in (1, 2):
        write(ROOT / "flickr30k_token" / "flickr30k-images" / f"{i}.jpg", jpeg(i))


CUB = ["001.Black_footed_Albatross", "002.Laysan_Albatross", "004.Groove_billed_Ani"]


def cub() -> None:
    """Two trainval classes and a test class of two images each, ten captions; one seen test image;
    one caption file without its image; a caption in Latin-1."""
    for c, name in enumerate(CUB):
        for i in range(2):
            image = f"{name[4:]}_{i:04}_{c}"
            text = [f"this bird {j} is number {i} of class {c}." for j in range(10)]
            content = "\n".join(text).encode() + b"\n"
            if (c, i) == (2, 1):
                content = content.replace(b"this bird 3", b"this \xe9gret 3")
            write(ROOT / "cub" / "text_c10" / name / f"{image}.txt", content)
            if (c, i) != (0, 1):
                write(ROOT / "cub" / "images" / name / f"{image}.jpg", jpeg(30 * c + i))
    write(ROOT / "cub" / "trainvalclasses.txt", f"{CUB[0]}\n{CUB[1]}\n")
    write(ROOT / "cub" / "testclasses.txt", f"{CUB[2]}\n")
    write(ROOT / "cub" / "seen_test_images.txt", f"{CUB[1]}/Laysan_Albatross_0001_1.jpg\n")


def flowers() -> None:
    """Six images of three classes; compressed labels; class lists (test is class 1, as in Reed's
    split); image 6 has a label but no captions; setid.mat, which the lists overrule."""
    labels = [1, 2, 77, 77, 1, 2]
    root = ROOT / "flowers"
    for i, label in enumerate(labels, 1):
        write(root / "jpg" / f"image_{i:05}.jpg", jpeg(12 * i))
        if i < 6:
            text = "\n".join(f"this flower {j} is number {i}." for j in range(10)) + "\n"
            write(root / "text_c10" / f"class_{label:05}" / f"image_{i:05}.txt", text)
    write(root / "imagelabels.mat", mat([("labels", "B", 9, 2, labels)], True))
    write(root / "trainvalclasses.txt", "class_00002\nclass_00077\n")
    write(root / "testclasses.txt", "class_00001\n")
    # Doubles, of which small vectors are stored as bytes: MATLAB does both.
    sets = [("trnid", "H", 6, 4, [1, 2]), ("valid", "d", 6, 9, [3]), ("tstid", "B", 6, 2, [4, 5, 6])]
    write(root / "setid.mat", mat(sets, False))


def webdataset() -> None:
    """Two shards of two samples with captions; a blank line; one sample without an image; and a
    data set of classes."""
    samples = []
    for i in range(4):
        text = "\n".join(f"Caption {j} of sample {i}." for j in range(5))
        if i == 2:
            text += "\n\n"
        samples.append([(f"s{i:07}.jpg", jpeg(25 * i)), (f"s{i:07}.txt", text.encode())])
    orphan = [("s0000009.txt", b"No image here.")]
    root = ROOT / "webdataset"
    write(root / "test" / "0.tar", tar(samples[0] + samples[1]))
    write(root / "test" / "1.tar", tar(samples[2] + samples[3] + orphan))
    write(root / "test" / "nshards.txt", "2")
    write(root / "dataset_type.txt", "retrieval")
    root = ROOT / "webdataset_classes"
    members = [(f"./s{i}.{end}", data) for i in range(3)
               for end, data in [("jpg", jpeg(9 * i)), ("cls", b"%d" % (i % 2))]]
    write(root / "test" / "0.tar", tar(members))
    write(root / "test" / "nshards.txt", "1")
    write(root / "classnames.txt", "cat\ndog\n")


def folders() -> None:
    """Captions beside images: a text file each (one image without), csv, and jsonl."""
    root = ROOT / "folder_txt"
    for i, name in enumerate(["a", "b", "below/c"]):
        write(root / f"{name}.jpg", jpeg(40 * i))
    write(root / "a.txt", "A first caption.\r\nA second one.\r\n")
    write(root / "below/c.txt", "Below.")
    root = ROOT / "folder_csv"
    for i, name in enumerate(["a", "b", "c"]):
        write(root / f"{name}.jpg", jpeg(40 * i))
    write(
        root / "captions.csv",
        b"\xef\xbb\xbfimage,caption,split,concept,comment_number\n"
        b'a.jpg,"One, with a comma",train,cat,0\n'
        b"a.jpg,Caf\xe9,train,cat,1\n"
        b"b.jpg,Other,test,dog,0\n"
        b"missing.jpg,Gone,test,dog,0\n",
    )
    root = ROOT / "folder_jsonl"
    for i, name in enumerate(["train/a", "test/b"]):
        write(root / f"{name}.jpg", jpeg(40 * i))
    rows = [
        {"file_name": "train/a.jpg", "captions": ["One.", "", "Two."], "split": "train", "class": "cat"},
        {"file_name": "test/b.jpg", "text": "Three.", "split": "test", "class": "dog", "level": 2},
    ]
    write(root / "metadata.jsonl", "\n".join(json.dumps(row) for row in rows) + "\n")


if __name__ == "__main__":
    shutil.rmtree(ROOT, ignore_errors=True)
    for make in (karpathy, plausible, coco, precomp, flickr, cub, flowers, webdataset, folders):
        make()
    files = [path for path in ROOT.rglob("*") if path.is_file()]
    print(f"{len(files)} files, {sum(path.stat().st_size for path in files)} bytes")
