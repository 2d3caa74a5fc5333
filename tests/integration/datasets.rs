//! Each layout of a dataset opens as `tests/make_dataset_fixtures.py` wrote it, oddities included.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use haze::gallery::{Dataset, DatasetItem, ImageLocation};
use haze::query::{AlphaPolicy, read_image, read_located_image};

use crate::support::{Desk, source};

fn fixture(name: &str) -> PathBuf {
    source("tests/fixtures/datasets").join(name)
}

fn open(name: &str) -> Dataset {
    Dataset::open(&fixture(name)).unwrap()
}

fn splits(dataset: &Dataset) -> Vec<(&str, usize)> {
    dataset.split_counts().into_iter().collect()
}

fn ids(dataset: &Dataset) -> Vec<&str> {
    dataset.items.iter().map(|item| item.id.as_str()).collect()
}

fn texts(item: &DatasetItem) -> Vec<&str> {
    item.captions.iter().map(|caption| caption.text.as_str()).collect()
}

fn item<'a>(dataset: &'a Dataset, id: &str) -> &'a DatasetItem {
    let found = dataset.items.iter().find(|item| item.id == id);
    found.unwrap_or_else(|| panic!("no {id} in {:?}", ids(dataset)))
}

fn classes(dataset: &Dataset) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for class in dataset.items.iter().filter_map(|item| item.labels.get("class")) {
        *counts.entry(class.as_str()).or_default() += 1;
    }
    counts
}

/// The note that holds `words`.
fn note<'a>(dataset: &'a Dataset, words: &str) -> &'a str {
    let found = dataset.notes.iter().find(|note| note.contains(words));
    found.unwrap_or_else(|| panic!("no {words:?} in {:?}", dataset.notes))
}

/// Every image is there and decodes to 8 x 8 pixels, by its location and by its path.
fn check_images(dataset: &Dataset) {
    dataset.require_images().unwrap();
    for item in &dataset.items {
        let image = read_located_image(&item.image).unwrap().to_rgb(AlphaPolicy::Drop);
        assert_eq!(image.dimensions(), (8, 8), "{}", item.id);
        assert_eq!(read_image(&item.image.path()).unwrap().to_rgb(AlphaPolicy::Drop), image);
        assert!(item.image.size() > 0);
    }
}

/// The gray level of an image, which the script gave it.
fn level(item: &DatasetItem) -> i32 {
    i32::from(read_located_image(&item.image).unwrap().to_rgb(AlphaPolicy::Drop)[(4, 4)][0]) - 128
}

#[test]
fn karpathy_with_restval_seven_captions_and_a_missing_image() {
    let dataset = open("karpathy");
    assert_eq!(dataset.name, "coco");
    assert_eq!(splits(&dataset), [("restval", 1), ("test", 3), ("train", 1), ("val", 1)]);
    let counts: Vec<_> = dataset.items.iter().map(|item| item.captions.len()).collect();
    assert_eq!(counts, [5, 5, 5, 7, 5, 4]);
    assert_eq!(dataset.items[3].captions[6].text, "Caption 6 of image 3.");
    assert!(note(&dataset, "blank captions").contains(": 1 "));
    let error = dataset.require_images().unwrap_err().to_string();
    assert!(error.contains("1 of 6") && error.contains("000000000005.jpg"), "{error}");

    let (there, missing) = dataset.without_missing_images().unwrap();
    assert_eq!((there.items.len(), missing), (5, 1));
    check_images(&there);
    assert_eq!(level(&there.items[2]), 40);
    let five = there.with_at_most(5);
    assert!(five.items.iter().all(|item| item.captions.len() <= 5));
    let train = five.with_splits(&["train", "restval"]).unwrap();
    assert_eq!(
        ids(&train),
        ["train2014/COCO_train2014_000000000001.jpg", "val2014/COCO_val2014_000000000002.jpg"]
    );
}

#[test]
fn coco_annotations_are_split_by_pcmes_caption_ids() {
    let dataset = open("coco");
    check_images(&dataset);
    assert_eq!(splits(&dataset), [("restval", 1), ("test", 2), ("train", 2), ("val", 1)]);
    assert!(dataset.items.iter().all(|item| item.captions.len() == 5));
    let fifth = item(&dataset, "val2014/COCO_val2014_000000000005.jpg");
    assert_eq!(texts(fifth)[..2], ["Caption 0 of image 5.", "Caption 1 of image 5."]);
    assert_eq!((fifth.split.as_deref(), fifth.labels["cocoid"].as_str()), (Some("test"), "5"));
    assert_eq!(level(fifth), 50);
    assert!(note(&dataset, "split lists leave out").contains("1 (first: caption id 505)"));
    assert!(note(&dataset, "no caption has").contains("1 (first: 999999 in coco_train_ids.npy)"));
    assert!(note(&dataset, "file does not list").contains("caption id 7700"));
}

#[test]
fn a_coco_file_by_itself_and_without_lists_is_split_by_its_name() {
    let one = Dataset::open(&fixture("coco/annotations/captions_val2014.json")).unwrap();
    check_images(&one);
    assert_eq!(one.items.len(), 4);

    let desk = Desk::new();
    let to = desk.path("coco");
    copy(&fixture("coco"), &to);
    for name in ["train", "restval", "dev", "test"] {
        std::fs::remove_file(to.join(format!("annotations/coco_{name}_ids.npy"))).unwrap();
    }
    let dataset = Dataset::open(&to).unwrap();
    assert_eq!(splits(&dataset), [("train", 2), ("val", 4)]);
    let fifth = item(&dataset, "val2014/COCO_val2014_000000000005.jpg");
    assert_eq!(fifth.captions.len(), 6);

    // All images in one folder, as PCME has them.
    for part in ["train2014", "val2014"] {
        for entry in std::fs::read_dir(to.join("images").join(part)).unwrap() {
            let path = entry.unwrap().path();
            std::fs::rename(&path, to.join("images").join(path.file_name().unwrap())).unwrap();
        }
    }
    check_images(&Dataset::open(&to).unwrap());
}

#[test]
fn coco_lists_of_other_annotations_or_of_two_splits_are_errors() {
    let desk = Desk::new();
    let lists = |name: &str, from: &str| {
        let to = desk.path(name);
        copy(&fixture("coco"), &to);
        std::fs::copy(
            fixture("coco").join(format!("annotations/coco_{from}_ids.npy")),
            to.join("annotations/coco_dev_ids.npy"),
        )
        .unwrap();
        Dataset::open(&to).unwrap_err().to_string()
    };
    let error = lists("twice", "test");
    assert!(error.contains("listed for") && error.contains("one split"), "{error}");

    let to = desk.path("other");
    copy(&fixture("coco"), &to);
    for file in ["captions_train2014.json", "coco_dev_ids.npy", "coco_test_ids.npy"] {
        std::fs::remove_file(to.join("annotations").join(file)).unwrap();
    }
    std::fs::remove_file(to.join("annotations/coco_restval_ids.npy")).unwrap();
    let error = Dataset::open(&to).unwrap_err().to_string();
    assert!(error.contains("belong to other annotations"), "{error}");
    std::fs::write(to.join("annotations/coco_train_ids.npy"), b"not npy").unwrap();
    let error = Dataset::open(&to).unwrap_err().to_string();
    assert!(error.contains("coco_train_ids.npy"), "{error}");
}

#[test]
fn vse_text_files_with_ids_of_lines_or_groups_and_a_mapping() {
    for name in ["precomp", "precomp/coco_precomp"] {
        let dataset = open(name);
        check_images(&dataset);
        assert_eq!(splits(&dataset), [("test", 1), ("testall", 1), ("train", 2), ("val", 1)]);
        let counts: Vec<_> = dataset.items.iter().map(|item| item.captions.len()).collect();
        assert_eq!(counts, [5, 4, 5, 5, 5]);
        assert_eq!(texts(&dataset.items[2])[0], "caption 0 of image 3");
        assert_eq!(dataset.items[2].id, "val2014/COCO_val2014_000000000003.jpg");
        assert!(note(&dataset, "blank captions").contains("train_caps.txt, line 8"));
        note(&dataset, "testall");
    }
    // Without the mapping, by the number at the end of a file's name.
    let desk = Desk::new();
    let to = desk.path("p");
    copy(&fixture("precomp"), &to);
    std::fs::remove_file(to.join("id_mapping.json")).unwrap();
    let dataset = Dataset::open(&to).unwrap();
    check_images(&dataset);
    assert_eq!(level(&dataset.items[3]), 60);
    std::fs::remove_dir_all(to.join("images")).unwrap();
    let dataset = Dataset::open(&to).unwrap();
    assert!(note(&dataset, "no file was found").contains(": 5 "));
    dataset.require_images().unwrap_err();
}

#[test]
fn vse_text_files_that_do_not_fit_are_errors() {
    let desk = Desk::new();
    for (i, (file, content, words)) in [
        ("dev_ids.txt", "3\n4\n", "it has 5 lines but dev_ids.txt has 2 ids"),
        ("dev_ids.txt", "1\n", "\"1\" is in train"),
        ("testall_ids.txt", "5\n5\n", "\"5\" is listed twice"),
        ("dev_ids.txt", "9\n", "no path for the image id \"9\""),
    ]
    .into_iter()
    .enumerate()
    {
        let to = desk.path(&i.to_string());
        copy(&fixture("precomp"), &to);
        std::fs::write(to.join("coco_precomp").join(file), content).unwrap();
        let error = Dataset::open(&to).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let to = desk.path("none");
    copy(&fixture("precomp"), &to);
    std::fs::remove_file(to.join("coco_precomp/dev_ids.txt")).unwrap();
    let error = Dataset::open(&to).unwrap_err().to_string();
    assert!(error.contains("dev_ids.txt is missing"), "{error}");
}

#[test]
fn flickr30k_of_kaggle_with_a_broken_line_latin_letters_and_lists() {
    let dataset = open("flickr30k");
    check_images(&dataset);
    assert_eq!(dataset.name, "flickr30k");
    assert_eq!(splits(&dataset), [("test", 1), ("train", 2), ("val", 1)]);
    let counts: Vec<_> = dataset.items.iter().map(|item| item.captions.len()).collect();
    assert_eq!(counts, [5, 5, 6, 5]);
    assert_eq!(texts(&dataset.items[0])[0], "A caption 0 of 1001 .");
    assert_eq!(texts(&dataset.items[1])[4], "A caption 4 of 1002 .");
    assert_eq!(texts(&dataset.items[3])[2], "A café scene .");
    assert!(note(&dataset, "Windows-1252").contains("results.csv, line 20"));
    assert!(note(&dataset, "lack the \"|\"").contains("results.csv, line 11"));
    assert!(note(&dataset, "split lists").contains("1 (first: 4242 in flickr30k_test.txt)"));

    let tokens = open("flickr30k_token");
    check_images(&tokens);
    assert_eq!(ids(&tokens), ["1.jpg", "2.jpg"]);
    assert_eq!(texts(&tokens.items[1])[4], "A caption 4 of 2 .");
    assert_eq!(tokens.notes, [""; 0]);
}

#[test]
fn flickr30k_files_that_are_damaged_are_errors_that_name_the_line() {
    let desk = Desk::new();
    let path = desk.path("results.csv");
    for (content, words) in [
        ("image_name| comment_number| comment\nnonsense\n", "line 2 is \"nonsense\""),
        ("1.jpg| 0| a\n1.jpg| 0| b\n", "line 2: comment 0 of \"1.jpg\" is there twice"),
        ("../1.jpg| 0| a\n", "leaves the image folder"),
        ("image_name| comment_number| comment\n", "no images found"),
    ] {
        std::fs::write(&path, content).unwrap();
        let error = Dataset::open(&path).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    std::fs::write(&path, "1.jpg| 0| a\n").unwrap();
    std::fs::write(desk.path("train.txt"), "1\n").unwrap();
    std::fs::write(desk.path("test.txt"), "1.jpg\n").unwrap();
    let error = Dataset::open(&path).unwrap_err().to_string();
    assert!(error.contains("is in the list of"), "{error}");
}

#[test]
fn cub_with_classes_seen_test_images_and_a_lost_image() {
    let dataset = open("cub");
    assert_eq!(splits(&dataset), [("seen_test", 1), ("test", 2), ("train", 3)]);
    assert!(dataset.items.iter().all(|item| item.captions.len() == 10));
    assert_eq!(
        classes(&dataset),
        BTreeMap::from([
            ("001.Black_footed_Albatross", 2),
            ("002.Laysan_Albatross", 2),
            ("004.Groove_billed_Ani", 2),
        ])
    );
    let seen = item(&dataset, "002.Laysan_Albatross/Laysan_Albatross_0001_1.jpg");
    assert_eq!(seen.split.as_deref(), Some("seen_test"));
    assert_eq!((texts(seen)[9], level(seen)), ("this bird 9 is number 1 of class 1.", 31));
    let odd = item(&dataset, "004.Groove_billed_Ani/Groove_billed_Ani_0001_2.jpg");
    assert_eq!(texts(odd)[3], "this égret 3 is number 1 of class 2.");
    note(&dataset, "Windows-1252");
    assert!(note(&dataset, "without an image").contains("Black_footed_Albatross_0001_0.jpg"));
    let (there, missing) = dataset.without_missing_images().unwrap();
    assert_eq!(missing, 1);
    check_images(&there);
}

#[test]
fn class_lists_by_number_work_and_a_class_in_two_lists_is_an_error() {
    let desk = Desk::new();
    let to = desk.path("cub");
    copy(&fixture("cub"), &to);
    std::fs::write(to.join("trainvalclasses.txt"), "1\n2\n99\n").unwrap();
    let dataset = Dataset::open(&to).unwrap();
    assert_eq!(splits(&dataset), [("seen_test", 1), ("test", 2), ("train", 3)]);
    assert!(note(&dataset, "split lists").contains("99 in trainvalclasses.txt"));
    // A list of one half goes before the list of both.
    std::fs::write(to.join("valclasses.txt"), "2\n").unwrap();
    let dataset = Dataset::open(&to).unwrap();
    assert_eq!(splits(&dataset), [("seen_test", 1), ("test", 2), ("train", 2), ("val", 1)]);
    std::fs::write(to.join("valclasses.txt"), "4\n").unwrap();
    let error = Dataset::open(&to).unwrap_err().to_string();
    assert!(error.contains("\"4\" is in the list of test") || error.contains("list of val"));
}

#[test]
fn flowers_with_compressed_labels_and_class_lists() {
    let dataset = open("flowers");
    check_images(&dataset);
    assert_eq!(splits(&dataset), [("test", 2), ("train", 4)]);
    let counts = [("class_00001", 2), ("class_00002", 2), ("class_00077", 2)];
    assert_eq!(classes(&dataset), BTreeMap::from(counts));
    let last = item(&dataset, "image_00006.jpg");
    assert_eq!((last.captions.len(), last.labels["class"].as_str()), (0, "class_00002"));
    assert!(note(&dataset, "without captions").contains("image_00006.jpg"));
    let third = item(&dataset, "image_00003.jpg");
    assert_eq!((texts(third)[9], level(third)), ("this flower 9 is number 3.", 36));
}

#[test]
fn flowers_without_class_lists_are_split_by_setid() {
    let desk = Desk::new();
    let to = desk.path("flowers");
    copy(&fixture("flowers"), &to);
    for name in ["trainvalclasses.txt", "testclasses.txt"] {
        std::fs::remove_file(to.join(name)).unwrap();
    }
    let dataset = Dataset::open(&to).unwrap();
    assert_eq!(splits(&dataset), [("test", 3), ("train", 2), ("val", 1)]);
    note(&dataset, "setid.mat");

    // Labels that are damaged, or of other images, never give a silent wrong class.
    let labels = to.join("imagelabels.mat");
    let whole = std::fs::read(&labels).unwrap();
    std::fs::write(&labels, &whole[..whole.len() - 20]).unwrap();
    let error = Dataset::open(&to).unwrap_err().to_string();
    assert!(error.contains("imagelabels.mat"), "{error}");
    std::fs::write(&labels, std::fs::read(to.join("setid.mat")).unwrap()).unwrap();
    let error = Dataset::open(&to).unwrap_err().to_string();
    assert!(error.contains("no variable \"labels\"") && error.contains("trnid"), "{error}");
    std::fs::write(&labels, &whole).unwrap();
    std::fs::rename(to.join("text_c10/class_00077"), to.join("text_c10/class_00078")).unwrap();
    let error = Dataset::open(&to).unwrap_err().to_string();
    assert!(error.contains("class_00077") && error.contains("class_00078"), "{error}");
}

#[test]
fn webdataset_images_are_read_inside_their_tars() {
    let dataset = open("webdataset");
    check_images(&dataset);
    assert_eq!(splits(&dataset), [("test", 4)]);
    assert_eq!(dataset.items[2].id, "test/1.tar/s0000002.jpg");
    let levels: Vec<_> = dataset.items.iter().map(level).collect();
    assert_eq!(levels, [0, 25, 50, 75]);
    assert!(dataset.items.iter().all(|item| item.captions.len() == 5));
    assert_eq!(texts(&dataset.items[3])[4], "Caption 4 of sample 3.");
    assert!(matches!(dataset.items[0].image, ImageLocation::Member(_)));
    note(&dataset, "samples without an image");
    note(&dataset, "blank captions");
    for (name, count) in [("webdataset/test", 4), ("webdataset/test/1.tar", 2)] {
        let part = open(name);
        check_images(&part);
        assert_eq!(part.items.len(), count, "{name}");
    }

    let dataset = open("webdataset_classes");
    check_images(&dataset);
    assert_eq!(classes(&dataset), BTreeMap::from([("cat", 2), ("dog", 1)]));
}

#[test]
fn shards_that_are_missing_cut_short_or_odd_are_errors() {
    let desk = Desk::new();
    let to = desk.path("w");
    copy(&fixture("webdataset"), &to);
    let shard = to.join("test/1.tar");
    let whole = std::fs::read(&shard).unwrap();
    std::fs::write(&shard, &whole[..600]).unwrap();
    let error = Dataset::open(&to).unwrap_err().to_string();
    assert!(error.contains("1.tar") && error.contains("cut short"), "{error}");
    std::fs::remove_file(&shard).unwrap();
    let error = Dataset::open(&to).unwrap_err().to_string();
    assert!(error.contains("names 2 shards, but 1.tar is not there"), "{error}");
    // An archive that goes after it was opened is a missing image, not a crash.
    std::fs::write(&shard, &whole).unwrap();
    let dataset = Dataset::open(&to).unwrap();
    std::fs::remove_file(&shard).unwrap();
    assert!(dataset.require_images().unwrap_err().to_string().contains("2 of 4"));

    let to = desk.path("c");
    copy(&fixture("webdataset_classes"), &to);
    std::fs::write(to.join("classnames.txt"), "cat\n").unwrap();
    let error = Dataset::open(&to).unwrap_err().to_string();
    assert!(error.contains("one of 1 class names"), "{error}");
}

#[test]
fn captions_beside_images_as_texts_csv_or_jsonl() {
    let dataset = open("folder_txt");
    check_images(&dataset);
    assert_eq!(ids(&dataset), ["a.jpg", "b.jpg", "below/c.jpg"]);
    assert_eq!(texts(&dataset.items[0]), ["A first caption.", "A second one."]);
    assert_eq!(texts(&dataset.items[2]), ["Below."]);
    assert!(note(&dataset, "without a text file").contains("1 of 3"));

    let dataset = open("folder_csv");
    assert_eq!(ids(&dataset), ["a.jpg", "b.jpg", "missing.jpg", "c.jpg"]);
    assert_eq!(texts(&dataset.items[0]), ["One, with a comma", "Café"]);
    assert_eq!(splits(&dataset), [("test", 2), ("train", 1)]);
    assert_eq!(dataset.items[1].labels, BTreeMap::from([("concept".into(), "dog".into())]));
    note(&dataset, "comment_number");
    note(&dataset, "Windows-1252");
    assert!(note(&dataset, "table does not name").contains("c.jpg"));
    assert!(dataset.require_images().is_err());

    let dataset = open("folder_jsonl");
    check_images(&dataset);
    assert_eq!(texts(&dataset.items[0]), ["One.", "Two."]);
    assert_eq!(dataset.items[1].captions[0].level, Some(2));
    assert_eq!(classes(&dataset), BTreeMap::from([("cat", 1), ("dog", 1)]));
    assert_eq!(splits(&dataset), [("test", 1), ("train", 1)]);
}

#[test]
fn tables_that_are_not_understood_are_errors_that_say_what_they_have() {
    let desk = Desk::new();
    std::fs::write(desk.path("a.png"), b"x").unwrap();
    for (name, content, words) in [
        ("captions.csv", "picture,caption\na.png,b\n", "no column for an image"),
        ("captions.csv", "image,words\na.png,b\n", "no column for a caption"),
        ("captions.csv", "image,caption\n/etc/passwd,b\n", "leaves the image folder"),
        ("captions.csv", "image,caption,split\na.png,b,x\na.png,c,y\n", "another split"),
        ("captions.csv", "image,caption\na.png\n", "captions.csv"),
        ("captions.jsonl", "{\"image\": \"a.png\", \"caption\": \"b\"}\n{\n", "line 2"),
        ("metadata.jsonl", "{\"file_name\": 3, \"text\": \"b\"}\n", "no column for an image"),
    ] {
        let path = desk.path(name);
        std::fs::write(&path, content).unwrap();
        let error = Dataset::open(&path).unwrap_err().to_string();
        assert!(error.contains(words), "{content}: {error}");
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn an_unknown_folder_is_told_the_layouts_that_are_known() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("empty")).unwrap();
    let error = Dataset::open(&desk.path("empty")).unwrap_err().to_string();
    for word in ["Karpathy", "captions_*.json", "*_caps.txt", "results.csv", "text_c10", ".tar"] {
        assert!(error.contains(word), "{word}: {error}");
    }
}

#[test]
fn every_layout_is_indexed_by_the_program() {
    let desk = Desk::new();
    for (name, count, skipped) in [
        ("karpathy", 5, 1),
        ("coco", 6, 0),
        ("precomp", 5, 0),
        ("flickr30k", 4, 0),
        ("cub", 5, 1),
        ("flowers", 6, 0),
        ("webdataset", 4, 0),
        ("folder_txt", 3, 0),
        ("folder_csv", 3, 1),
        ("folder_jsonl", 2, 0),
    ] {
        let path = fixture(name);
        let run = desk.run(&["index", path.to_str().unwrap(), "--out", name, "--json"]).ok();
        let json = run.json();
        assert_eq!(json["index"]["count"], count, "{name}: {json}");
        assert_eq!(json["skipped"].as_array().unwrap().len(), skipped, "{name}: {json}");
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}
