//! Whom we trust and who we are: what TLS connections are made with, and the token that requests
//! carry.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use http::HeaderValue;
use hyper_rustls::ConfigBuilderExt as _;
use rustls::{ClientConfig, RootCertStore};

use super::{Client, ClientError, error::OUR_CERTIFICATE_IS_REFUSED};
use crate::config::{
    ReceiverConfig,
    key_files::{
        CertificateAndKey, CertificateTerms, FileError, provider, read_roots, read_secret,
    },
};

/// Everything that comes from files, as they were when the client was made; a reload makes a new
/// client.
pub(super) struct Credentials {
    /// `None`: the system's authorities.
    roots: Option<RootCertStore>,
    identity: Option<CertificateAndKey>,
    /// Made when the first https connection wants it: a plain one needs no authorities, and some
    /// systems have none.
    config: OnceLock<Result<Arc<ClientConfig>, String>>,
    /// `Bearer ...`, marked sensitive.
    pub(super) authorization: Option<HeaderValue>,
}

impl Credentials {
    pub(super) fn read(config: &ReceiverConfig) -> Result<Self, FileError> {
        let roots = config
            .ca_file
            .as_deref()
            .map(|path| read_roots("receiver.ca_file", path))
            .transpose()?;
        let identity = match &config.client_cert {
            Some((chain, key)) => Some(CertificateAndKey::read(
                ("receiver.client_cert_file", chain),
                ("receiver.client_key_file", key),
            )?),
            None => None,
        };
        let authorization = config.token_file.as_deref().map(read_token).transpose()?;
        Ok(Self {
            roots,
            identity,
            config: OnceLock::new(),
            authorization,
        })
    }

    /// The same error, with when our certificate is good and for whom, where it is refused: the
    /// alert of one that is not valid yet is that of one that has expired.
    pub(super) fn blamed(&self, error: ClientError) -> ClientError {
        match (error, &self.identity) {
            (ClientError::Tls(why), Some(identity)) if why.contains(OUR_CERTIFICATE_IS_REFUSED) => {
                let terms = CertificateTerms::of(&identity.chain);
                let terms = terms.map(|terms| format!(": {terms}")).unwrap_or_default();
                ClientError::Tls(why + &terms)
            }
            (error, _) => error,
        }
    }

    /// What TLS connections are made with. Reads the system's authorities the first time, where
    /// those are used.
    pub(super) fn config(&self) -> Result<Arc<ClientConfig>, ClientError> {
        self.config
            .get_or_init(|| self.make_config())
            .clone()
            .map_err(ClientError::Tls)
    }

    fn make_config(&self) -> Result<Arc<ClientConfig>, String> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match &self.roots {
            Some(roots) => builder.with_root_certificates(roots.clone()),
            // hyper-rustls reads the store of the system through rustls-native-certs (both kept by
            // the rustls project; it finds the distributions' places and honours SSL_CERT_FILE and
            // SSL_CERT_DIR). The platform verifier would come to the same here: on Linux it reads
            // that same store.
            None => builder.with_native_roots().map_err(|error| {
                format!(
                    "this system has no trusted certificates: {error}. Install its ca-certificates package, or set \
                     receiver.ca_file to the authority that signed the receiver's certificate"
                )
            })?,
        };
        let config = match &self.identity {
            Some(CertificateAndKey { chain, key, .. }) => builder
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .map_err(|error| error.to_string())?,
            None => builder.with_no_client_auth(),
        };
        Ok(Arc::new(config))
    }
}

impl Client {
    /// Whether requests carry a bearer token.
    pub fn has_token(&self) -> bool {
        self.token().is_some()
    }

    /// The bearer token that requests carry, so that it can be kept out of what is shown.
    pub(crate) fn token(&self) -> Option<&str> {
        let authorization = self.0.credentials.authorization.as_ref()?;
        authorization.to_str().ok()?.strip_prefix("Bearer ")
    }
}

/// A token travels as `Bearer TOKEN` (RFC 6750, section 2.1): visible ASCII on one line.
fn read_token(path: &Path) -> Result<HeaderValue, FileError> {
    const TOKEN: &str = "receiver.token_file";
    let bytes = read_secret(TOKEN, path)?;
    let token = bytes.trim_ascii();
    if token.is_empty() {
        return Err(FileError::unusable(
            TOKEN,
            path,
            "is empty; it must hold the token on one line",
        ));
    }
    let value = token
        .iter()
        .all(u8::is_ascii_graphic)
        .then(|| [b"Bearer ".as_slice(), token].concat())
        .and_then(|value| HeaderValue::from_bytes(&value).ok());
    let mut value = value.ok_or_else(|| {
        let problem = "must hold nothing but the token: one line of printable ASCII without spaces";
        FileError::unusable(TOKEN, path, problem)
    })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn file(folder: &tempfile::TempDir, name: &str, content: &str) -> Option<PathBuf> {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        Some(path)
    }

    fn receiver() -> ReceiverConfig {
        ReceiverConfig::at("https://receiver.example").unwrap()
    }

    fn problem(config: &ReceiverConfig) -> String {
        Credentials::read(config)
            .err()
            .expect("these files cannot be used")
            .to_string()
    }

    fn certificate() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["client".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_token_is_one_printable_line_and_never_shown() {
        let folder = folder();
        for (content, good) in [
            ("s3cret", true),
            ("s3cret\r\n", true),
            ("", false),
            ("\n", false),
            ("a b", false),
            ("a\nb", false),
        ] {
            let config = ReceiverConfig {
                token_file: file(&folder, "token", content),
                ..receiver()
            };
            match Credentials::read(&config) {
                Ok(credentials) => {
                    assert!(good, "{content:?}");
                    let value = credentials.authorization.unwrap();
                    assert_eq!(value, "Bearer s3cret");
                    assert!(!format!("{value:?}").contains("s3cret"));
                }
                Err(error) => {
                    assert!(!good, "{content:?}: {error}");
                    assert!(
                        error.to_string().starts_with("receiver.token_file /"),
                        "{error}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_bad_file_is_named_with_what_is_wrong_and_what_to_do() {
        let folder = folder();
        let (certificate, key) = certificate();
        let (_, other_key) = self::certificate();
        let none = receiver();
        let cert_file = file(&folder, "cert.pem", &certificate);
        let key_file = file(&folder, "key.pem", &key);
        for (config, words) in [
            (
                ReceiverConfig {
                    ca_file: Some("/no/such".into()),
                    ..none.clone()
                },
                "receiver.ca_file /no/such: cannot be read",
            ),
            (
                ReceiverConfig {
                    ca_file: file(&folder, "a", "text"),
                    ..none.clone()
                },
                "BEGIN CERTIFICATE",
            ),
            (
                ReceiverConfig {
                    ca_file: key_file.clone(),
                    ..none.clone()
                },
                "holds no certificate",
            ),
            (
                ReceiverConfig {
                    client_cert: cert_file.clone().zip(cert_file.clone()),
                    ..none.clone()
                },
                "holds no private key",
            ),
            (
                ReceiverConfig {
                    client_cert: cert_file
                        .clone()
                        .zip(file(&folder, "other.pem", &other_key)),
                    ..none.clone()
                },
                "does not go with the certificate",
            ),
        ] {
            let problem = problem(&config);
            assert!(problem.contains(words), "{problem}");
            assert!(!problem.contains("PRIVATE KEY-----\n"), "{problem}");
        }
        let good = ReceiverConfig {
            client_cert: cert_file.zip(key_file),
            ..none
        };
        assert!(Credentials::read(&good).is_ok());
    }

    #[test]
    fn a_certificate_of_ours_that_is_refused_is_said_to_be_what_it_is() {
        let folder = folder();
        let refused = || ClientError::Tls(format!("alert ({OUR_CERTIFICATE_IS_REFUSED})"));
        for (year, usage, words) in [
            (
                2060,
                None,
                "valid from 2060-01-01T00:00:00Z to 2070-01-01T00:00:00Z",
            ),
            (
                2020,
                Some(rcgen::ExtendedKeyUsagePurpose::ServerAuth),
                "not for clients",
            ),
            (
                2020,
                Some(rcgen::ExtendedKeyUsagePurpose::ClientAuth),
                "to 2070-01-01T00:00:00Z",
            ),
        ] {
            let mut params = rcgen::CertificateParams::new(["lab-07".to_owned()]).unwrap();
            params.not_before = rcgen::date_time_ymd(year, 1, 1);
            params.not_after = rcgen::date_time_ymd(2070, 1, 1);
            params.extended_key_usages.extend(usage);
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap().pem();
            let config = ReceiverConfig {
                client_cert: file(&folder, "cert", &certificate).zip(file(
                    &folder,
                    "key",
                    &key.serialize_pem(),
                )),
                ..receiver()
            };
            let credentials = Credentials::read(&config).unwrap();
            let said = credentials.blamed(refused()).to_string();
            assert!(said.contains(words), "{said}");
            assert_eq!(
                said.contains("not for clients"),
                words == "not for clients",
                "{said}"
            );
            // Of theirs nothing is said so.
            let other = credentials.blamed(ClientError::Tls("expired".to_owned()));
            assert_eq!(other.to_string(), "TLS failed: expired");
        }
    }
}
