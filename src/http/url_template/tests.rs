use super::*;
use crate::model::{episode::Digest, text::without_queries};

fn of(url: &str, id: &str) -> String {
    UrlTemplate::parse(url)
        .unwrap()
        .of(&EpisodeId::parse(id).unwrap())
}

#[test]
fn the_id_goes_where_the_address_says_or_behind_it() {
    for (url, expected) in [
        ("http://h", "http://h/v1/episodes/a%20b"),
        ("http://h/", "http://h/v1/episodes/a%20b"),
        (
            "https://h:8490/base//",
            "https://h:8490/base/v1/episodes/a%20b",
        ),
        ("https://h/base?x=1", "https://h/base/v1/episodes/a%20b?x=1"),
        (
            "http://[::1]:1/put/{id}.tar.zst",
            "http://[::1]:1/put/a%20b.tar.zst",
        ),
        (
            "http://h/?name={id}&again={id}",
            "http://h/?name=a%20b&again=a%20b",
        ),
    ] {
        assert_eq!(of(url, "a b"), expected, "{url}");
    }
    assert_eq!(
        of("http://h", "{id}?#"),
        "http://h/v1/episodes/%7Bid%7D%3F%23"
    );
}

#[test]
fn an_address_that_cannot_be_used_is_refused_without_being_shown() {
    for (url, words) in [
        ("", "http://"),
        ("receiver.example", "http://"),
        ("ftp://h/", "http://"),
        ("http:///x", "is not an address"),
        ("http://:80/x", "no host"),
        ("http://user:secret@h/", "token_file"),
        ("http://{id}.h/", "path or the query"),
        ("http://h/{sha256}/{id}", "other than {id}"),
        ("http://h/#x", "fragment"),
        ("http://h/a b", "is not an address"),
        ("http://h:99999", "from 1 to 65535"),
        ("http://h:0/x", "from 1 to 65535"),
        ("http://h:/x", "from 1 to 65535"),
        ("http://[::1]:70000", "from 1 to 65535"),
        ("http://h/v1/episodes", "before /v1/episodes"),
        ("http://h/base/v1/episodes/", "before /v1/episodes"),
        ("http://h/v1/episodes/run-7", "before /v1/episodes"),
    ] {
        let error = UrlTemplate::parse(url).expect_err(url).to_string();
        assert!(error.contains(words), "{url}: {error}");
        assert!(!error.contains("secret"));
    }
}

#[test]
fn a_query_is_for_the_request_alone() {
    for url in [
        "https://h/c/{id}?sv=1&sig=SECRET",
        "https://h/base?sig=SECRET",
        "https://h/x?n={id}&sig=SECRET",
    ] {
        let address = UrlTemplate::parse(url).unwrap();
        let id = EpisodeId::parse("a b").unwrap();
        assert!(address.of(&id).contains("SECRET"), "{url}");
        for shown in [
            address.shown(),
            address.shown_of(&id),
            shown(url),
            without_query(url).to_owned(),
        ] {
            assert!(
                !shown.contains("SECRET") && shown.starts_with("https://h/"),
                "{url}: {shown}"
            );
        }
    }
    assert_eq!(shown("https://h/x?sig=SECRET"), "https://h/x?\u{2026}");
    assert_eq!(shown("https://h/x"), "https://h/x");
    // A fragment, which is refused, may hold one too.
    assert_eq!(shown("https://h/x#SECRET"), "https://h/x#\u{2026}");
    assert_eq!(shown("https://h/x#a?SECRET"), "https://h/x#\u{2026}");
    assert_eq!(
        without_queries("no https://h/x#SECRET there"),
        "no https://h/x#\u{2026} there"
    );
    let text = "1 | url = https://h/x?sig=SECRET more? 'http://i/?t=SECRET' and http://j/y";
    assert_eq!(
        without_queries(text),
        "1 | url = https://h/x?\u{2026} more? 'http://i/?\u{2026}' and http://j/y"
    );
}

#[test]
fn a_user_name_and_a_password_are_shown_nowhere() {
    for (url, expected) in [
        ("http://user:PASS@h/x", "http://\u{2026}@h/x"),
        ("https://PASS@h:8490", "https://\u{2026}@h:8490"),
        ("http://user:p@PASS@h/x?y", "http://\u{2026}@h/x?\u{2026}"),
        ("http://user:PA/SS@h/", "http://user:\u{2026}"),
        ("http://user:PA?SS@h/", "http://user:\u{2026}"),
        ("user:PASS@h", "\u{2026}@h"),
        ("http://h:80/a@b", "http://h:80/a@b"),
        ("http://[::1]:80/{id}", "http://[::1]:80/{id}"),
    ] {
        assert_eq!(shown(url), expected, "{url}");
    }
    let text = "1 | url = http://user:PASS@h/x and 'https://u:PASS@i?a' more";
    assert_eq!(
        without_queries(text),
        "1 | url = http://\u{2026}@h/x and 'https://\u{2026}@i?\u{2026}' more"
    );
}

#[test]
fn an_origin_has_one_spelling() {
    for (url, expected) in [
        ("HTTP://Host/x?y", Some("http://host:80")),
        ("https://h", Some("https://h:443")),
        ("https://h:8490/v1/episodes/a", Some("https://h:8490")),
        ("http://[::1]:1/", Some("http://[::1]:1")),
        ("ftp://h/", None),
        ("/v1", None),
        ("", None),
    ] {
        assert_eq!(origin(url).as_deref(), expected, "{url}");
    }
}

#[test]
fn headers_are_filled_in_and_cannot_be_broken_out_of() {
    let extra = |pairs: &[(&str, &str)]| {
        ExtraHeaders::parse(
            &pairs
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect(),
        )
    };
    let headers = extra(&[
        ("X-Name", "{host}/{id} {sha256}"),
        ("X-Tar", "{content_sha256}"),
        ("X-Commit", "v={commit}"),
        ("Content-Type", "application/octet-stream"),
    ])
    .unwrap();
    let facts = ArchiveFacts {
        sha256: Digest([1; 32]),
        content_sha256: Digest([2; 32]),
        size_bytes: 1,
    };
    let id = EpisodeId::parse("Lauf grün").unwrap();
    let commit = Commit::parse(&"a".repeat(40)).unwrap();
    let host = HeaderValue::from_static("lab");
    let mut filling = Filling {
        id: &id,
        facts: Some(&facts),
        commit: Some(&commit),
        host: &host,
    };
    let mut filled = HeaderMap::new();
    filled.insert("content-type", HeaderValue::from_static("application/zstd"));
    headers.fill(&filling, &mut filled).unwrap();
    assert_eq!(
        filled["x-name"],
        format!("lab/Lauf%20gr%C3%BCn {}", "01".repeat(32))
    );
    assert_eq!(filled["x-tar"], "02".repeat(32));
    assert_eq!(filled["x-commit"], format!("v={}", "a".repeat(40)));
    assert_eq!(filled["content-type"], "application/octet-stream");
    assert!(!format!("{filled:?}").contains("lab/"));

    filling.commit = None;
    headers.fill(&filling, &mut filled).unwrap();
    assert_eq!(filled.get("x-commit"), None);
    filling.facts = None;
    headers.fill(&filling, &mut filled).unwrap();
    assert!(filled.get("x-name").is_none() && filled.get("x-tar").is_none());

    for (name, value, words) in [
        ("x y", "1", "not a header's name"),
        ("Host", "other", "HTTP itself"),
        ("transfer-encoding", "chunked", "HTTP itself"),
        ("X", "a\nb", "printable ASCII"),
        ("X", "ü", "printable ASCII"),
        ("X", "{is}", "not known"),
        ("X", "{id", "without"),
    ] {
        let error = extra(&[(name, value)]).expect_err(name).to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_password_beyond_ascii_is_blotted_in_whatever_charset_it_was_encoded_and_however_it_is_written()
{
    let address = UrlTemplate::parse("http://h").unwrap();
    let password = "pässwörd-geheim1";
    let latin_1: Vec<_> = password.chars().map(|c| u8::try_from(c).unwrap()).collect();
    for encoded in [password.as_bytes(), &latin_1] {
        let behind = STANDARD_NO_PAD.encode([b"user:", encoded].concat());
        let header = ("Authorization".to_owned(), format!("Basic {behind}"));
        let blot = address.blot(
            &ExtraHeaders::parse(&BTreeMap::from([header])).unwrap(),
            None,
        );
        for written in [
            password.as_bytes(),
            &latin_1,
            br"p\u00e4ssw\u00f6rd-geheim1",
            b"p&#228;ssw&#246;rd-geheim1",
            b"p%C3%A4ssw%C3%B6rd%2dgeheim1",
            b"p%25C3%25A4ssw%25C3%25B6rd-geheim1",
            "p\u{fffd}ssw\u{fffd}rd-geheim1".as_bytes(),
        ] {
            let said = [b"no user:", written, b"."].concat();
            let blotted = String::from_utf8(blot.body(said)).unwrap();
            assert_eq!(
                blotted,
                "no \u{2026}.",
                "{}",
                String::from_utf8_lossy(written)
            );
        }
    }
}
