use http::HeaderValue;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

use super::*;

fn name(text: &str) -> HostName {
    HostName::parse(text).unwrap()
}

fn authorization(lines: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(header::AUTHORIZATION, HeaderValue::from_str(line).unwrap());
    }
    headers
}

fn tokens() -> Tokens {
    let lines = ["lab-07", "lab-08", "lab-09"].map(|name| {
        let digest = Digest::of(format!("token of {name}").as_bytes());
        format!("{name} = \"{digest}\"\n")
    });
    Tokens::parse(&lines.concat()).unwrap()
}

/// A certificate with these DNS names and this common name.
fn certificate(dns: &[&str], common: Option<&str>) -> Vec<u8> {
    let mut params = CertificateParams::new([]).unwrap();
    // An address first: only DNS names count.
    params
        .subject_alt_names
        .push(SanType::IpAddress([192, 0, 2, 1].into()));
    params.subject_alt_names.extend(
        dns.iter()
            .map(|name| SanType::DnsName((*name).to_owned().try_into().unwrap())),
    );
    params.distinguished_name = DistinguishedName::new();
    if let Some(common) = common {
        params.distinguished_name.push(DnType::CommonName, common);
    }
    params
        .self_signed(&KeyPair::generate().unwrap())
        .unwrap()
        .der()
        .to_vec()
}

#[test]
fn a_certificate_is_named_by_its_first_dns_name_else_its_common_name() {
    let named = |dns: &[&str], common| name_of(&certificate(dns, common));
    assert_eq!(
        named(&["lab-07", "lab-08"], Some("other")),
        Ok(name("lab-07"))
    );
    assert_eq!(
        named(&[], Some("Labor 7 (grün)")),
        Ok(name("Labor 7 (grün)"))
    );
    assert_eq!(named(&[], None), Err(NameError::Nameless));
    for hostile in ["../../evil", "", ".hidden", "a/b", "a\u{1b}[2J"] {
        let error = named(&[], Some(hostile)).unwrap_err();
        assert!(
            matches!(error, NameError::Unusable(..)),
            "{hostile:?}: {error:?}"
        );
        assert!(!error.to_string().contains('\u{1b}'));
    }
    // A DNS name that cannot be used does not fall back to another name that another host may own.
    assert!(matches!(
        named(&["-x"], Some("lab-07")),
        Err(NameError::Unusable(..))
    ));
    assert_eq!(name_of(b"no certificate"), Err(NameError::Unreadable));
}

#[test]
fn every_certificate_meets_every_token() {
    let tokens = tokens();
    let certificates = [
        None,
        Some(Ok(name("by-cert"))),
        Some(Err(NameError::Nameless)),
    ];
    let headers = [
        authorization(&[]),
        authorization(&["Bearer token of lab-08"]),
        authorization(&["Bearer wrong"]),
        authorization(&["Basic bGFiOnRva2Vu"]),
    ];
    let no = "401";
    let table = [
        // No names are asked for: not even what is wrong matters.
        (
            false,
            None,
            [["anybody"; 4], ["anybody"; 4], ["anybody"; 4]],
        ),
        (
            false,
            Some(&tokens),
            [[no, "lab-08", no, no], ["by-cert"; 4], [no; 4]],
        ),
        (true, None, [[no; 4], ["by-cert"; 4], [no; 4]]),
        (
            true,
            Some(&tokens),
            [[no, "lab-08", no, no], ["by-cert"; 4], [no; 4]],
        ),
    ];
    for (certificates_taken, tokens, rows) in table {
        let ways = Ways {
            certificates: certificates_taken,
            tokens,
        };
        for (certificate, row) in certificates.iter().zip(rows) {
            for (headers, expected) in headers.iter().zip(row) {
                let told = match identify(ways, certificate.as_ref(), headers) {
                    Ok(Caller::Unnamed) => "anybody".to_owned(),
                    Ok(Caller::Known(name)) => name.to_string(),
                    Err(problem) => {
                        assert_eq!(problem.kind, ProblemType::Unauthenticated);
                        problem.kind.status().to_string()
                    }
                };
                assert_eq!(told, expected, "{ways:?} {certificate:?} {headers:?}");
            }
        }
    }
}

#[test]
fn who_is_refused_is_told_what_to_set() {
    let tokens = tokens();
    let told = |certificates, tokens, headers: &HeaderMap| {
        identify(
            Ways {
                certificates,
                tokens,
            },
            None,
            headers,
        )
        .unwrap_err()
        .detail
    };
    let nothing = authorization(&[]);
    let unknown = authorization(&["Bearer secret"]);
    let both = told(true, Some(&tokens), &nothing);
    assert!(
        both.contains("client_cert_file") && both.contains("token_file"),
        "{both}"
    );
    assert!(!told(true, None, &nothing).contains("token_file"));
    assert!(!told(false, Some(&tokens), &nothing).contains("client_cert_file"));
    assert!(told(true, None, &unknown).contains("takes no tokens"));
    // Where a token was sent, and none has arrived.
    for (tokens, headers, expected) in [
        (Some(&tokens), &nothing, true),
        (Some(&tokens), &unknown, false),
        (None, &nothing, false),
    ] {
        let told = told(true, tokens, headers);
        assert_eq!(
            told.contains("something in between takes it off"),
            expected,
            "{told}"
        );
    }
    assert!(told(true, Some(&tokens), &unknown).contains("not known"));
    assert!(!told(true, Some(&tokens), &unknown).contains("secret"));
    let challenge = |certificates, tokens, headers| {
        let ways = Ways {
            certificates,
            tokens,
        };
        super::challenge(ways, headers)
    };
    for certificates in [false, true] {
        let told = |headers| challenge(certificates, Some(&tokens), headers);
        assert_eq!(told(&nothing), "Bearer realm=\"sealift\"");
        assert!(told(&unknown).contains("invalid_token"));
    }
    // Where no token is taken none is asked for.
    for headers in [&nothing, &unknown] {
        assert!(!challenge(true, None, headers).contains("Bearer"));
    }
}

#[test]
fn a_token_comes_in_one_line_of_its_scheme() {
    for (lines, token) in [
        (&["Bearer abc"][..], Some(&b"abc"[..])),
        (&["bearer  abc "], Some(b"abc")),
        (&["BEARER abc"], Some(b"abc")),
        (&["Bearer "], None),
        (&["Bearer"], None),
        (&["Bearerabc"], None),
        (&["Basic abc"], None),
        (&["Bearer abc", "Bearer abc"], None),
        (&[], None),
    ] {
        assert_eq!(bearer(&authorization(lines)), token, "{lines:?}");
    }
}

#[test]
fn each_token_is_found_wherever_it_stands_and_no_other() {
    let tokens = tokens();
    for host in ["lab-07", "lab-08", "lab-09"] {
        assert_eq!(
            tokens.name_of(format!("token of {host}").as_bytes()),
            Some(&name(host))
        );
    }
    for wrong in ["", "token of lab-0", "token of lab-07 ", "lab-07"] {
        assert_eq!(tokens.name_of(wrong.as_bytes()), None, "{wrong:?}");
    }
    // All of the digest counts.
    for byte in 0..32 {
        let mut near = Digest::of(b"token");
        near.0[byte] ^= 1;
        let tokens = Tokens::parse(&format!("lab-07 = '{near}'")).unwrap();
        assert_eq!(tokens.name_of(b"token"), None, "{byte}");
    }
}

#[test]
fn a_file_of_tokens_that_cannot_be_used_says_why_and_quotes_no_value() {
    let digest = Digest::of(b"token");
    let (lab_07, other) = (format!("lab-07 = '{digest}'\n"), Digest::of(b"other"));
    let same = format!("lab-07 = '{digest}'\nlab-08 = '{digest}'");
    for (text, words) in [
        ("a = '1'\nb = s3cret\n", "line 2"),
        ("lab-07 = 's3cret'", "lab-07: not the SHA-256"),
        ("lab-07 = 7", "lab-07: not the SHA-256"),
        ("lab.example = 's3cret'", "in quotation marks"),
        (&format!("'../x' = '{digest}'"), "cannot be a name"),
        (&format!("a = '{digest}'\na = '{digest}'"), "line 2"),
        (&same, "the same token"),
        (&format!("{lab_07}LAB-07 = '{other}'"), "two spellings"),
        (&format!("{lab_07}'lab-07.' = '{other}'"), "two spellings"),
    ] {
        let error = Tokens::parse(text).unwrap_err();
        assert!(error.contains(words), "{text}: {error}");
        assert!(
            !error.contains("s3cret") && !error.contains(&digest.to_string()),
            "{error}"
        );
    }
    // Withdrawn, all of them: no client comes in.
    for nothing in ["", "# nothing\n"] {
        let tokens = Tokens::parse(nothing).unwrap();
        assert_eq!(tokens.name_of(b"token"), None);
    }
    let quoted = Tokens::parse(&format!(
        "'lab.example' = '{}'",
        digest.to_string().to_uppercase()
    ));
    assert_eq!(
        quoted.unwrap().name_of(b"token"),
        Some(&name("lab.example"))
    );
    assert!(!format!("{:?}", tokens()).contains(&Digest::of(b"token of lab-07").to_string()));
}

#[test]
fn a_host_reads_its_own_and_a_reader_everything() {
    let readers = BTreeSet::from([name("reader")]);
    let owners = [
        None,
        Some(name("lab-07")),
        Some(name("lab-08")),
        Some(name("reader")),
    ];
    for (caller, expected) in [
        (Caller::Unnamed, [true; 4]),
        (Caller::Known(name("lab-07")), [false, true, false, false]),
        (Caller::Known(name("lab-08")), [false, false, true, false]),
        (Caller::Known(name("stranger")), [false; 4]),
        (Caller::Known(name("reader")), [true; 4]),
    ] {
        for (owner, expected) in owners.iter().zip(expected) {
            assert_eq!(
                may_read(&caller, owner.as_ref(), &readers),
                expected,
                "{caller:?} {owner:?}"
            );
        }
    }
}
