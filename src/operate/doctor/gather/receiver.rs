//! Asks the receiver what an upload of the newest episode here would meet.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, header};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{COMMIT, remedy, settings::UsableSettings, within};
use crate::{
    config::key_files::CertificateTerms,
    disk::meta,
    http::{
        client::{Answered, ClientError, Request, RequestBody, Wait},
        endpoint::Endpoint,
        url_template::origin,
    },
    model::{
        episode::{Commit, EpisodeId},
        layout::Layout,
        progress::Progress,
        records::WallTime,
        text::without_query,
        wire,
    },
    operate::doctor::facts::{
        AskedCommit, FiledEpisodes, PlainRequest, ReceiverAnswer, ReceiverFacts,
    },
};

/// For the connection, between two bytes, and for the answer: a person waits.
pub(super) const PATIENCE: (Duration, Duration, Duration) = (
    Duration::from_millis(2800),
    Duration::from_millis(2800),
    Duration::from_millis(2800),
);
/// For all of it together.
const ALL: Duration = Duration::from_millis(3300);
/// For a request without TLS, after one that was not answered.
const PLAIN: Duration = Duration::from_millis(500);
/// For all commits of what it has rejected, after it has answered.
const QUARANTINED: Duration = Duration::from_millis(900);
/// With so many commits of what it has rejected it is asked, at most.
const MAX_COMMITS: usize = 8;
/// A problem is some hundred bytes.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// So many of the newest episodes are looked into for a commit.
const MAX_LOOKED_INTO: usize = 50;
/// Of a folder with more, some of the newest will do.
const MAX_LISTED: usize = 20_000;

pub(super) async fn ask(known: &UsableSettings, layout: Option<&Layout>) -> Option<ReceiverFacts> {
    let (config, host_id) = known.receiver.as_ref()?;
    let origin = origin(&config.url)?;
    let uri: http::Uri = origin.parse().ok()?;
    let host = uri.host()?.trim_matches(['[', ']']).to_owned();
    let (commit, meta_fault) = match layout.cloned() {
        Some(layout) => within(COMMIT, move || newest_commit(&layout))
            .await
            .unwrap_or((AskedCommit::Unknown, None)),
        None => (AskedCommit::NoEpisodes, None),
    };
    let has_credential = config.token_file.is_some() || config.client_cert.is_some();
    let mut receiver = ReceiverFacts {
        origin,
        host,
        unit_here: false,
        at_admission: true,
        has_credential,
        commit,
        meta_fault,
        plain: None,
        said: ReceiverAnswer::NotAsked,
        remedy: None,
    };
    let Some(client) = known.client.clone() else {
        return Some(receiver);
    };
    let endpoint = Endpoint::new(config, host_id, client).ok()?;
    let (asked, unit) = tokio::join!(
        tokio::time::timeout(ALL, ask_of_newest(&endpoint, &mut receiver)),
        super::service::unit("sealift-receiver.service")
    );
    receiver.unit_here = unit.is_some_and(|unit| unit.load_state == "loaded");
    receiver.said = match asked {
        Ok(Ok(said)) => said,
        Ok(Err(error)) => ReceiverAnswer::Failed(error),
        Err(_) => ReceiverAnswer::Failed(ClientError::TimedOut(Wait::Answer)),
    };
    if uri.scheme_str() == Some("http") && matches!(receiver.said, ReceiverAnswer::Failed(_)) {
        let plain = tokio::time::timeout(PLAIN, ask_plainly(&receiver.host, uri.port_u16()));
        receiver.plain = plain.await.ok().flatten();
    }
    receiver.remedy = match &receiver.said {
        ReceiverAnswer::Answered {
            status: 412, json, ..
        } => json
            .as_ref()
            .and_then(|json| json.get("remediation")?.as_str())
            .and_then(remedy::of),
        ReceiverAnswer::Answered { .. } | ReceiverAnswer::Failed(_) | ReceiverAnswer::NotAsked => {
            None
        }
    };
    Some(receiver)
}

/// How a request without TLS is taken by what gave it no answer. `None` where it waits, or cannot
/// be reached.
async fn ask_plainly(host: &str, port: Option<u16>) -> Option<PlainRequest> {
    /// The first byte of a TLS record that is an alert.
    const ALERT: u8 = 21;
    let mut connection = TcpStream::connect((host, port.unwrap_or(80))).await.ok()?;
    let request = format!("HEAD / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.ok()?;
    let mut first = [0];
    match connection.read(&mut first).await {
        Ok(1) if first[0] == ALERT => Some(PlainRequest::Alert),
        Ok(0) => Some(PlainRequest::Closed),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
            Some(PlainRequest::Closed)
        }
        Ok(_) | Err(_) => None,
    }
}

/// Asks with the commit of each that was rejected for its commit, once it has answered with that of
/// the newest episode: what it takes now says what comes back. A commit is asked with once.
pub(super) async fn ask_of_quarantined(
    known: &UsableSettings,
    receiver: Option<&ReceiverFacts>,
    aside: Option<FiledEpisodes>,
) -> Option<FiledEpisodes> {
    let mut aside = aside?;
    let answers = receiver.is_some_and(|receiver| {
        receiver.at_admission && matches!(receiver.said, ReceiverAnswer::Answered { .. })
    });
    let (Some((config, host_id)), Some(client), true) =
        (&known.receiver, known.client.clone(), answers)
    else {
        return Some(aside);
    };
    let Ok(endpoint) = Endpoint::new(config, host_id, client) else {
        return Some(aside);
    };
    let mut asked: Vec<(Option<u16>, Option<Commit>)> = Vec::new();
    for one in aside.quarantined.iter().filter(|one| one.is_for_its_commit) {
        let question = (one.status, one.commit.clone());
        if !asked.contains(&question) {
            asked.push(question);
        }
    }
    // Some of each status, where there are more than are asked with.
    asked.sort_by_key(|(status, _)| *status);
    let each = (MAX_COMMITS / asked.chunk_by(|a, b| a.0 == b.0).count().max(1)).max(1);
    let asked = asked
        .chunk_by(|a, b| a.0 == b.0)
        .flat_map(|alike| alike.iter().take(each))
        .map(|(_, commit)| commit);
    let until = tokio::time::Instant::now() + QUARANTINED;
    for commit in asked {
        let asking = ask_at(&endpoint, None, commit.as_ref());
        let Ok(answer) = tokio::time::timeout_at(until, asking).await else {
            break;
        };
        let Ok(ReceiverAnswer::Answered { status, .. }) = answer else {
            continue;
        };
        let is_admitted = match status {
            200..=299 => Some(true),
            400 | 412 => Some(false),
            _ => None,
        };
        let quarantined = aside.quarantined.iter_mut();
        for one in quarantined.filter(|one| one.is_for_its_commit && one.commit == *commit) {
            one.is_admitted = is_admitted;
        }
    }
    Some(aside)
}

async fn ask_of_newest(
    endpoint: &Endpoint,
    receiver: &mut ReceiverFacts,
) -> Result<ReceiverAnswer, ClientError> {
    receiver.at_admission = endpoint.address().of_admission().is_some();
    let (id, commit) = match &receiver.commit {
        AskedCommit::Of(id, commit) | AskedCommit::Last(id, commit) => (Some(id), Some(commit)),
        AskedCommit::None
        | AskedCommit::LastNone
        | AskedCommit::NoEpisodes
        | AskedCommit::Unknown => (None, None),
    };
    ask_at(endpoint, id, commit).await
}

async fn ask_at(
    endpoint: &Endpoint,
    id: Option<&EpisodeId>,
    commit: Option<&Commit>,
) -> Result<ReceiverAnswer, ClientError> {
    let bad = |error: &dyn std::fmt::Display| ClientError::Request(error.to_string());
    // No episode is called so; where the address is a template, something has to stand in it.
    let no_episode = EpisodeId::parse("sealift-doctor").map_err(|error| bad(&error))?;
    let (method, url) = match endpoint.address().of_admission() {
        Some(url) => (Method::GET, url),
        None => (Method::HEAD, endpoint.address().of(&no_episode)),
    };
    let uri = url
        .parse()
        .map_err(|error| bad(&format_args!("{}: {error}", without_query(&url))))?;
    let mut headers = HeaderMap::new();
    if let Some(commit) = commit {
        let value = HeaderValue::from_str(commit.as_str()).map_err(|error| bad(&error))?;
        headers.insert(wire::CODE_COMMIT, value);
    }
    endpoint
        .complete(&mut headers, id.unwrap_or(&no_episode), None, commit)
        .map_err(|error| bad(&error))?;
    for about_a_body in [
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::CONTENT_LANGUAGE,
    ] {
        headers.remove(about_a_body);
    }
    let request = Request {
        method,
        uri,
        headers,
        body: RequestBody::empty(),
    };
    let answered = endpoint.send(request, &Progress::default()).await?;
    Ok(read(answered).await)
}

async fn read(answered: Answered) -> ReceiverAnswer {
    let text = |name: header::HeaderName| {
        answered
            .headers
            .get(name)?
            .to_str()
            .ok()
            .map(|text| text.trim().to_owned())
    };
    let media_type = wire::media_type(&answered.headers);
    let is_json = matches!(media_type.as_str(), "application/json" | wire::PROBLEM_TYPE);
    let html = matches!(media_type.as_str(), "text/html" | "application/xhtml+xml");
    let date = text(header::DATE).and_then(|date| httpdate::parse_http_date(&date).ok());
    let date = date.and_then(|date| date.duration_since(std::time::UNIX_EPOCH).ok());
    let date = date
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .map(WallTime::from_unix_seconds);
    let location = text(header::LOCATION).map(|location| without_query(&location).to_owned());
    let (status, certificates) = (
        answered.status.as_u16(),
        answered.server_certificates.clone(),
    );
    let certificate_ends = CertificateTerms::of(&certificates).map(|terms| terms.ends());
    let body = answered.short_body(MAX_ANSWER_BYTES).await;
    let json = serde_json::from_slice::<Value>(&body.bytes)
        .ok()
        .filter(|json| is_json && json.is_object());
    ReceiverAnswer::Answered {
        status,
        json,
        html,
        location,
        date,
        certificate_ends,
    }
}

/// Of the newest episode that says its commit: one that is still here, else the last that was
/// shipped or put aside.
fn newest_commit(layout: &Layout) -> (AskedCommit, Option<String>) {
    let here = commit_in(&[&layout.episodes]);
    if let Some((id, commit)) = here.commit {
        return (AskedCommit::Of(id, commit), None);
    }
    let last = commit_in(&[&layout.shipped, &layout.quarantine]);
    let asked = match (here.any, last.commit, last.any) {
        (true, ..) => AskedCommit::None,
        (false, Some((id, commit)), _) => AskedCommit::Last(id, commit),
        (false, None, true) => AskedCommit::LastNone,
        (false, None, false) => AskedCommit::NoEpisodes,
    };
    (asked, here.meta_fault.or(last.meta_fault))
}

/// What the newest episodes say of their code.
#[derive(Default)]
struct RecentCommits {
    /// The newest that says its commit.
    commit: Option<(EpisodeId, Commit)>,
    /// Whether there is any at all.
    any: bool,
    /// What keeps that of a newer one from being read, where it is the writing.
    meta_fault: Option<String>,
}

fn commit_in(folders: &[&Path]) -> RecentCommits {
    let mut listed: Vec<_> = folders.iter().flat_map(|folder| newest(folder)).collect();
    listed.sort_by(|a, b| b.cmp(a));
    let mut found = RecentCommits {
        any: !listed.is_empty(),
        ..RecentCommits::default()
    };
    for (_, path) in listed.iter().take(MAX_LOOKED_INTO) {
        let Some(Ok(id)) = path.file_name().map(EpisodeId::from_os) else {
            continue;
        };
        let Ok(said) = meta::look(path) else { continue };
        match said {
            Ok(Some(commit)) => {
                found.commit = Some((id, commit));
                break;
            }
            Ok(None) => {}
            Err(fault) => {
                found
                    .meta_fault
                    .get_or_insert_with(|| format!("{id}: {fault}"));
            }
        }
    }
    found
}

fn newest(folder: &Path) -> Vec<(i64, PathBuf)> {
    let mut found: Vec<(i64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .take(MAX_LISTED)
    {
        if EpisodeId::from_os(&entry.file_name()).is_err() {
            continue;
        }
        if let Ok(metadata) = entry.metadata()
            && metadata.is_dir()
        {
            found.push((metadata.mtime(), entry.path()));
        }
    }
    found.sort_by(|a, b| b.cmp(a));
    found.truncate(MAX_LOOKED_INTO);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_episode_whose_meta_is_no_json_is_named_with_the_place() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::below(folder.path());
        let episode = layout.episodes.join("run-7");
        fs::create_dir_all(&episode).unwrap();
        assert_eq!(newest_commit(&layout).1, None);
        fs::write(episode.join("meta.json"), "{\n 'a': 1}").unwrap();
        assert_eq!(
            newest_commit(&layout).1.unwrap(),
            "run-7: meta.json is not JSON: line 2, column 2"
        );
        fs::write(episode.join("meta.json"), "{\"a\": NaN}").unwrap();
        assert_eq!(newest_commit(&layout).1, None);
    }

    #[test]
    fn the_newest_episode_that_says_its_commit_is_asked_about() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::below(folder.path());
        assert_eq!(newest_commit(&layout).0, AskedCommit::NoEpisodes);
        let episode = layout.shipped.join("old");
        fs::create_dir_all(&episode).unwrap();
        assert_eq!(newest_commit(&layout).0, AskedCommit::LastNone);
        let meta =
            |digit: &str| format!(r#"{{"code_version":{{"commit":"{}"}}}}"#, digit.repeat(40));
        fs::write(episode.join("meta.json"), meta("a")).unwrap();
        let AskedCommit::Last(id, _) = newest_commit(&layout).0 else {
            panic!()
        };
        assert_eq!(id.as_str(), "old");
        fs::create_dir_all(layout.episodes.join("waits")).unwrap();
        assert_eq!(newest_commit(&layout).0, AskedCommit::None);
        fs::write(layout.episodes.join("waits/meta.json"), meta("B")).unwrap();
        let AskedCommit::Of(id, commit) = newest_commit(&layout).0 else {
            panic!()
        };
        assert_eq!(
            (id.as_str(), commit.as_str()),
            ("waits", "b".repeat(40).as_str())
        );
    }
}
