//! What becomes a spare file, and what does not.

use super::*;

#[test]
fn what_is_not_wanted_any_more_becomes_the_spare_that_is_missing_and_nothing_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let spares = [folder.path().join(".spare-")];
    let spare = |n: u32| folder.path().join(format!(".spare-{n}"));
    keep_spares(&spares[0]).unwrap();
    let file = folder.path().join("file");
    fs::write(&file, [1; 10_000]).unwrap();
    assert!(!make_spare(&file, &spares).unwrap(), "none is missing");
    assert_eq!(fs::read(&file).unwrap(), [1; 10_000]);

    remove_file(&spare(3)).unwrap();
    assert!(make_spare(&file, &spares).unwrap());
    assert!(!file.exists());
    assert_eq!(fs::read(spare(3)).unwrap(), [0; 4096]);

    remove_file(&spare(3)).unwrap();
    // What has another name somewhere is still wanted there; a hole has no blocks; a symlink leads
    // elsewhere.
    fs::write(&file, [1; 10_000]).unwrap();
    fs::hard_link(&file, folder.path().join("link")).unwrap();
    File::create(folder.path().join("hole"))
        .unwrap()
        .set_len(10_000)
        .unwrap();
    symlink(&file, folder.path().join("symlink")).unwrap();
    for name in ["file", "link", "hole"] {
        assert!(
            !make_spare(&folder.path().join(name), &spares).unwrap(),
            "{name}"
        );
    }
    make_spare(&folder.path().join("symlink"), &spares).unwrap_err();
    assert!(!make_spare(&folder.path().join("nothing"), &spares).unwrap());
    assert_eq!(fs::read(&file).unwrap(), [1; 10_000]);
    assert!(!spare(3).exists());
}

#[test]
fn what_is_removed_becomes_the_spares_that_are_missing() {
    let (root, episode, _) = sandbox();
    let spares = [root.path().join("spare-")];
    keep_spares(&spares[0]).unwrap();
    for n in [2, 5, 6] {
        remove_file(&root.path().join(format!("spare-{n}"))).unwrap();
    }
    for name in ["a", "b"] {
        fs::write(episode.join(name), [1; 5000]).unwrap();
    }
    remove_tree_into_spares(&episode, &spares, &quiet()).unwrap();
    assert!(names(&root.path().join("episodes")).is_empty());
    let there: Vec<_> = names(root.path())
        .into_iter()
        .filter(|name| name.starts_with("spare-"))
        .collect();
    assert_eq!(
        there,
        [
            "spare-0", "spare-1", "spare-2", "spare-3", "spare-4", "spare-5", "spare-7"
        ]
    );
}
