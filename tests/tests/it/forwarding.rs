//! Bodies that pass through, byte by byte.

use std::io::Write as _;

use tests::Site;

#[test]
fn a_megabyte_there_and_back_passes_unchanged() {
    let site = Site::watching_a_pointer().start("v1");
    let body: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut connection = site.connect();
    connection.send(
        "PUT",
        "/echo",
        &format!("Content-Length: {}\r\n", body.len()),
    );
    // The app answers while it reads, so both have to be done at the same time.
    let mut writer = connection.writer();
    std::thread::scope(|scope| {
        scope.spawn(|| writer.write_all(&body).unwrap());
        let answer = connection.answer().unwrap();
        assert_eq!(answer.header("x-echo-method"), Some("PUT"));
        assert!(answer.body == body, "{} bytes came back", answer.body.len());
    });
}

#[test]
fn a_chunked_upload_arrives_whole() {
    let site = Site::watching_a_pointer().start("v1");
    let mut connection = site.connect();
    connection.send("POST", "/upload", "Transfer-Encoding: chunked\r\n");
    for chunk in ["4\r\nhand\r\n", "4\r\noff!\r\n", "0\r\n\r\n"] {
        connection.write(chunk.as_bytes());
    }
    let answer = connection.answer().unwrap();
    assert!(answer.text().contains("\"length\":8"), "{answer:?}");
}

#[test]
fn one_connection_serves_many_requests_one_after_the_other() {
    let site = Site::watching_a_pointer().start("v1");
    let mut connection = site.connect();
    for _ in 0..100 {
        let answer = connection.get("/version").unwrap();
        assert_eq!((answer.status, answer.text()), (200, "v1"));
    }
}
