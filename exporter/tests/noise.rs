//! Whatever a client sends, the exporter answers HTTP or nothing, and never more than was asked for. The same
//! runs under a fuzzer: `fuzz/fuzz_targets/http_request.rs`.

use proptest::prelude::*;
use uvs_exporter::testing::Listening;

const PIECES: [&str; 16] = [
    "GET ",
    "HEAD ",
    "POST ",
    "/",
    "/metrics",
    "/readyz",
    "http://uvs/",
    " HTTP/1.1",
    " HTTP/1.0",
    "\r\n",
    "\n",
    "\r\n\r\n",
    "Host: uvs\r\n",
    "Content-Length: 9\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Upgrade: h2c\r\n",
];

/// Pieces of requests, and anything between them.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(&PIECES[..]).prop_map(|p| p.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ];
    prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

#[test]
fn a_request_is_answered_over_memory_as_over_a_socket() {
    let exporter = Listening::new();
    let text = |bytes: &[u8], closes| {
        String::from_utf8_lossy(&exporter.answer(bytes, closes)).into_owned()
    };
    assert!(text(b"GET /healthz HTTP/1.1\r\nHost: uvs\r\n\r\n", false).ends_with("\r\n\r\nok\n"));
    assert!(text(b"GET /metrics HTTP/1.0\r\n\r\n", true).starts_with("HTTP/1.0 503 "));
    assert!(text(b"GET /nothing HTTP/1.1\r\n\r\n", false).starts_with("HTTP/1.1 404 "));
    assert_eq!(text(b"GET /healthz HTTP/1.1\r\nHost: u", false), "");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn no_request_breaks_the_exporter(bytes in request(), closes in any::<bool>()) {
        let data = [&[u8::from(!closes)], bytes.as_slice()].concat();
        Listening::new().exercise(&data);
    }
}
