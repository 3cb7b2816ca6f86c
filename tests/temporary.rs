//! What goes away when the process ends without unwinding. A test program of its own, as the list is the process's.

use std::fs;

use llama_svf::temporary::{remove_all, Listed};

#[test]
fn what_is_listed_is_removed_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["kept", "finished", "file", "folder/inner"].map(|name| folder.path().join(name));
    fs::create_dir(folder.path().join("folder")).unwrap();
    paths.iter().for_each(|path| fs::write(path, "x").unwrap());
    drop(Listed::new(&paths[1]));
    let _file = Listed::new(&paths[2]);
    let _folder = Listed::new(folder.path().join("folder"));
    let _gone = Listed::new(folder.path().join("gone"));
    remove_all();
    assert_eq!(paths.map(|path| path.exists()), [true, true, false, false]);
    assert!(!folder.path().join("folder").exists());
}
