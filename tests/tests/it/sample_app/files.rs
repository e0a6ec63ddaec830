//! Static files, and only those of the working directory.

use std::fs;

use super::running::{get, start};

#[test]
fn files_of_the_working_directory_are_served() {
    let (app, address) = start(&[]);
    fs::create_dir(app.release.site().join("assets")).unwrap();
    fs::write(app.release.site().join("assets/site.css"), "body {}").unwrap();

    let answer = get(address, "/assets/site.css");

    assert_eq!((answer.status, answer.text()), (200, "body {}"));
    assert_eq!(answer.header("content-type"), Some("text/css"));
    assert_eq!(get(address, "/assets/none.css").status, 404);
}

#[test]
fn files_elsewhere_are_not() {
    let (app, address) = start(&[]);
    let secret = app.release.beside("secret.txt");
    fs::write(&secret, "secret").unwrap();
    let absolute = secret.to_str().unwrap().replace('\\', "/");
    let absolute = absolute.trim_start_matches('/');

    let targets = [
        "/../secret.txt",
        "/assets/../../secret.txt",
        "/%2e%2e/secret.txt",
    ];
    let more = [
        "/..%2fsecret.txt",
        "/..%5csecret.txt",
        "/%2e%2e%5csecret.txt",
    ];
    let rooted = [format!("//{absolute}"), format!("/%2f{absolute}")];
    let rooted = rooted.iter().map(String::as_str);
    for target in targets.into_iter().chain(more).chain(rooted) {
        let answer = get(address, target);
        assert!(
            [400, 404].contains(&answer.status),
            "{target}: {}",
            answer.status
        );
        assert!(!answer.text().contains("secret"), "{target}");
    }
}
