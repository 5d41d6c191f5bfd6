//! `client-certificate`, everything that begins with `receiver-`, and `clock`.
//!
//! One question was asked: what would an upload with this credential and this commit meet? Which
//! row its answer turns depends on how far it came: name, connection, TLS, HTTP, credential,
//! commit. What lies behind is not known, and has no row.

mod commit;
#[cfg(test)]
mod tests;

use std::{path::Path, time::Duration};

use serde_json::Value;

use self::commit::{commit_missing, commit_refused, commit_taken};
use crate::{
    http::client::{CERTIFICATE_OF_AN_AUTHORITY, ClientError, OUR_CERTIFICATE, Wait},
    model::{
        records::{RELEASED, WallTime},
        snapshot::{HoldStatus, WEATHER_LASTS_S},
        wire::ProblemType,
    },
    operate::doctor::{
        facts::{DaemonState, Facts, PlainRequest, ReceiverAnswer, ReceiverFacts},
        row::{DoctorRow, Id},
        words::{Fix, certificate_at, foreign, path, span, word},
    },
};

/// A certificate that ends within so many days is told.
const SOON_DAYS: i64 = 30;
/// And is red.
const NOW_DAYS: i64 = 3;
const DAY_S: i64 = 86_400;
/// Stamps in the records are off by this much, which does no harm.
const CLOCK_SLACK_S: u64 = 120;
/// Further apart, nothing is removed by age (and certificates may not be what they seem).
const CLOCK_LIMIT_S: u64 = 24 * 3600;
/// Of what a receiver says, so much is shown, characters.
const MAX_SHOWN_CHARS: usize = 300;

pub(super) fn rows(facts: &Facts) -> Vec<DoctorRow> {
    let mut rows = Vec::new();
    if let Some((file, ends)) = &facts.settings.client_certificate_ends {
        let fix = renewal(facts, file);
        rows.push(match &facts.settings.client_certificate_fault {
            Some(wrong) => {
                let summary = format!("Our certificate is refused by receivers: {wrong}.");
                DoctorRow::red(Id::ClientCertificate, summary, fix)
                    .with("not_after", ends.to_string())
            }
            None => certificate(
                Id::ClientCertificate,
                "Our certificate",
                *ends,
                facts.now,
                fix,
            ),
        });
    }
    let Some(receiver) = &facts.receiver else {
        rows.push(clock(facts, None));
        return rows;
    };
    match &receiver.said {
        ReceiverAnswer::NotAsked => rows.push(clock(facts, None)),
        ReceiverAnswer::Failed(error) => {
            rows.extend(failed(facts, receiver, error));
            rows.push(clock(facts, None));
        }
        ReceiverAnswer::Answered {
            status,
            json,
            html,
            location,
            date,
            certificate_ends,
        } => {
            rows.push(DoctorRow::green(
                Id::ReceiverName,
                format!("{} is known.", receiver.host),
            ));
            rows.push(DoctorRow::green(
                Id::ReceiverReachable,
                format!("{} takes connections.", receiver.origin),
            ));
            if let Some(ends) = certificate_ends {
                let fix = show_certificate(receiver);
                rows.push(certificate(
                    Id::ReceiverCertificate,
                    "The receiver's certificate",
                    *ends,
                    facts.now,
                    fix,
                ));
                rows.push(DoctorRow::green(
                    Id::ReceiverTls,
                    "It is the receiver that was meant.",
                ));
            }
            rows.extend(answered(
                facts,
                receiver,
                *status,
                json.as_ref(),
                *html,
                location.as_deref(),
            ));
            rows.push(clock(facts, *date));
        }
    }
    rows
}

/// Shows for which name our certificate is; who signs makes another, which no command here does.
fn renewal(facts: &Facts, file: &Path) -> Fix {
    let show = foreign(file, |file| {
        format!("openssl x509 -noout -subject -issuer -ext subjectAltName -enddate -in {file}")
    });
    let mut files = facts.settings.files.iter();
    let key = files.find(|file| file.key == "receiver.client_key_file");
    let key = key.map_or_else(String::new, |key| {
        format!(
            " and its key over {} (group {}, mode 640)",
            path(&key.path),
            facts.people.shipper().gid
        )
    });
    Fix::from(facts.hands.as_root(&show)).then(format!(
        "What is shown below says for which name it is, and who signed it: have another made for that name (docs/receiver.md, \
         \"Renewing\"), and copy it over {}{key}. Then: {}",
        path(file),
        facts.hands.unit_to("reload")
    ))
}

/// Asks the receiver's end for its certificate, and shows until when it is good, and for whom.
fn show_certificate(receiver: &ReceiverFacts) -> Fix {
    certificate_at(&receiver.origin).into()
}

fn certificate(id: Id, whose: &str, ends: WallTime, now: WallTime, fix: Fix) -> DoctorRow {
    let left_s = ends.unix_seconds() - now.unix_seconds();
    let days = left_s.div_euclid(DAY_S);
    let row = if left_s < 0 {
        DoctorRow::red(id, format!("{whose} has expired on {ends}."), fix)
    } else if days < NOW_DAYS {
        DoctorRow::red(
            id,
            format!("{whose} expires on {ends}: in less than {} days.", days + 1),
            fix,
        )
    } else if days < SOON_DAYS {
        DoctorRow::yellow(
            id,
            format!("{whose} expires on {ends}: in {days} days."),
            fix,
        )
    } else {
        DoctorRow::green(id, format!("{whose} is good for {days} days."))
    };
    row.with("not_after", ends.to_string())
        .with("days_left", days)
}

fn failed(facts: &Facts, receiver: &ReceiverFacts, error: &ClientError) -> Vec<DoctorRow> {
    let (hands, origin, host) = (&facts.hands, &receiver.origin, &receiver.host);
    let named = DoctorRow::green(Id::ReceiverName, format!("{host} is known."));
    let reached = DoctorRow::green(
        Id::ReceiverReachable,
        format!("{origin} takes connections."),
    );
    let wake = || wake(facts, receiver);
    let said = error.to_string();
    // One question says nothing of how long it lasts; the daemon knows.
    let met = |id: Id, summary: String, fix: Fix| match weather_has_lasted(facts) {
        true => DoctorRow::red(id, summary, fix),
        false => {
            let taken = match &facts.daemon {
                DaemonState::Answers(snapshot) => snapshot.destination.last_delivery_ago_s,
                _ => None,
            };
            let taken = taken.map(|ago_s| {
                format!(
                    " An episode was delivered {} ago.",
                    span(Duration::from_secs(ago_s))
                )
            });
            let passes = passes(facts, "It may pass by itself");
            let summary = format!("{summary}{} {passes}", taken.unwrap_or_default());
            DoctorRow::yellow(id, summary, fix).with("weather", true)
        }
    };
    match error {
        ClientError::UnknownName(_) => {
            let summary = format!(
                "No resolver knows the name {host}: {said}. Is receiver.url right, and does the resolver work (getent hosts {})?",
                word(host)
            );
            let fix = hands.configure("reload");
            vec![met(Id::ReceiverName, summary, fix)]
        }
        ClientError::Unreachable(_) | ClientError::TimedOut(Wait::Connect) => {
            let summary = format!(
                "{origin}: {said}. Does the receiver run there, and does a firewall stand between?"
            );
            vec![named, met(Id::ReceiverReachable, summary, wake())]
        }
        ClientError::Tls(why) if why.contains(OUR_CERTIFICATE) => {
            let summary = format!("{origin} does not take us: {said}.");
            vec![
                named,
                reached,
                DoctorRow::red(Id::ReceiverCredential, summary, hands.change_credential()),
            ]
        }
        // rustls's words.
        ClientError::Tls(why) if why.contains("not valid yet") => {
            let summary = format!(
                "The receiver's certificate is not valid yet, as it looks from here: {said}. Its operator has to put back the old \
                 one, or this host's clock is wrong."
            );
            vec![
                named,
                reached,
                DoctorRow::red(Id::ReceiverCertificate, summary, show_certificate(receiver)),
            ]
        }
        ClientError::Tls(why) if why.contains("expired") => {
            let summary = format!(
                "The receiver's certificate has expired, as it looks from here: {said}. Its operator has to renew it, or this host's clock is wrong."
            );
            vec![
                named,
                reached,
                DoctorRow::red(Id::ReceiverCertificate, summary, show_certificate(receiver)),
            ]
        }
        // No setting of ours mends it.
        ClientError::Tls(why) if why.contains(CERTIFICATE_OF_AN_AUTHORITY) => {
            let summary = format!(
                "{origin} shows the certificate of an authority as its own: {said}. Its operator has to make another."
            );
            vec![
                named,
                reached,
                DoctorRow::red(Id::ReceiverCertificate, summary, show_certificate(receiver)),
            ]
        }
        ClientError::Tls(_) => {
            let summary = format!(
                "{origin} is not the receiver that was meant, as far as its certificate says: {said}."
            );
            vec![
                named,
                reached,
                DoctorRow::red(Id::ReceiverTls, summary, hands.configure("reload")),
            ]
        }
        ClientError::TimedOut(Wait::Idle | Wait::Answer)
        | ClientError::Lost(_)
        | ClientError::Stale(_) => {
            if receiver.plain == Some(PlainRequest::Alert) {
                let https = origin.replacen("http://", "https://", 1);
                let summary = format!(
                    "{origin} speaks TLS: a request without it is answered by a TLS alert. Set receiver.url = \"{https}\"."
                );
                let row = DoctorRow::red(Id::ReceiverAnswer, summary, hands.configure("reload"));
                return vec![named, reached, row];
            }
            let closed = match receiver.plain {
                Some(PlainRequest::Closed) => {
                    " It closes the connection of a plain request at once: where it speaks TLS, receiver.url begins with https://."
                }
                Some(PlainRequest::Alert) | None => "",
            };
            let summary =
                format!("{origin} takes connections and does not answer: {said}.{closed}");
            let row = if has_just_delivered(facts) {
                let summary = format!(
                    "{summary} One that serves one connection at a time answers others when the shipper's is closed, \
                     within seconds."
                );
                met(Id::ReceiverAnswer, summary, hands.sealift("doctor").into())
            } else {
                met(Id::ReceiverAnswer, summary, wake())
            };
            vec![named, reached, row]
        }
        ClientError::Request(_) | ClientError::Body(_) | ClientError::Cancelled => {
            vec![DoctorRow::red(
                Id::ReceiverAnswer,
                format!("{origin} could not be asked: {said}."),
                hands.configure("reload"),
            )]
        }
    }
}

/// Until when what passes by itself is yellow.
fn passes(facts: &Facts, how: &str) -> String {
    let lasts = span(Duration::from_secs(WEATHER_LASTS_S));
    match facts.daemon {
        DaemonState::None => format!("{how}: ship again a little later."),
        _ => format!("{how}; it is red once the daemon has been held by it for {lasts}."),
    }
}

/// Whether a receiver took an episode so short a time ago that a connection of the shipper may
/// still be open.
fn has_just_delivered(facts: &Facts) -> bool {
    const STILL_OPEN_S: u64 = 10;
    let DaemonState::Answers(snapshot) = &facts.daemon else {
        return false;
    };
    let ago_s = snapshot.destination.last_delivery_ago_s;
    ago_s.is_some_and(|ago_s| ago_s <= STILL_OPEN_S)
}

/// Who listens on this machine is ours to start. Else it is tried from here, and the sentence says
/// what to do there.
fn wake(facts: &Facts, receiver: &ReceiverFacts) -> Fix {
    let (hands, origin, host) = (&facts.hands, &receiver.origin, &receiver.host);
    let is_here = matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]" | "::1");
    if is_here && receiver.unit_here {
        return hands
            .as_root("systemctl start sealift-receiver.service")
            .into();
    }
    let there = if is_here {
        // The store is what the receiver was started with, which the doctor does not know.
        "It is to run on this machine: start it here as it was started before, into the store that it has \
         (`sealift receive --listen ... --store ...`)."
            .to_owned()
    } else {
        format!(
            "Where it runs, on {host}: `systemctl status sealift-receiver` says whether it does, and \
             `systemctl start sealift-receiver` starts it."
        )
    };
    let probe = curl(facts, "-v", &format!("{origin}/healthz"));
    Fix::from(probe).then(format!("{there} What is shown below tries it from here."))
}

/// As we ask it: by the same authority, and as the same host. A token is not shown to who lists
/// processes.
fn curl(facts: &Facts, how: &str, url: &str) -> String {
    let files = facts.settings.files.iter().filter_map(|file| {
        let option = match file.key {
            "receiver.ca_file" => "--cacert",
            "receiver.client_cert_file" => "--cert",
            "receiver.client_key_file" => "--key",
            _ => return None,
        };
        Some(format!(" {option} {}", path(&file.path)))
    });
    let files: String = if url.starts_with("https:") {
        files.collect()
    } else {
        String::new()
    };
    format!("curl {how} --max-time 5{files} {}", word(url))
}

fn answered(
    facts: &Facts,
    receiver: &ReceiverFacts,
    status: u16,
    json: Option<&Value>,
    html: bool,
    location: Option<&str>,
) -> Vec<DoctorRow> {
    let (id, hands, origin) = (Id::ReceiverAnswer, &facts.hands, &receiver.origin);
    let kind = json
        .and_then(|json| json.get("type")?.as_str())
        .and_then(ProblemType::from_urn);
    let said = words(status, json);
    let look = || {
        let url = format!("{origin}{}", crate::model::wire::ADMISSION_PATH);
        Fix::from(curl(facts, "-sv -o /dev/null", &url))
    };
    let fine = |summary: &str| DoctorRow::green(id, summary).with("status_code", status);
    let ours = || fine("It answers as a receiver does, and can store.");
    // What takes episodes may answer a question that it does not know as it likes; a portal may
    // have come between since.
    let taken = takes_episodes(facts).map(|ago_s| span(Duration::from_secs(ago_s)));
    let odd = |summary: String, fix: Fix| {
        let row = match &taken {
            None => DoctorRow::red(id, summary, fix),
            Some(ago) => DoctorRow::yellow(
                id,
                format!(
                    "{summary} An episode was delivered {ago} ago, and nothing was refused since: the next one shows whether \
                     it still takes them."
                ),
                fix,
            ),
        };
        row.with("status_code", status)
    };
    let known = || {
        let said = if receiver.has_credential {
            "It knows who we are."
        } else {
            "It does not ask callers who they are."
        };
        DoctorRow::green(Id::ReceiverCredential, said)
    };
    match status {
        204 if receiver.at_admission => vec![ours(), known(), commit_taken(receiver)],
        // Not a word about admission: whether it takes a PUT is seen when one comes.
        200..=299 if html => {
            let summary = format!(
                "{origin} answers with a web page: something that is no receiver stands between (a captive portal?)."
            );
            vec![odd(summary, look())]
        }
        200..=299 => vec![fine(
            "A server answers. It is no receiver of ours: what it takes is seen when an episode comes.",
        )],
        401 => vec![
            fine("It answers."),
            DoctorRow::red(
                Id::ReceiverCredential,
                format!("It does not know who we are: {said}."),
                hands.change_credential(),
            )
            .with("status_code", status),
        ],
        403 if json.is_some() && receiver.at_admission => vec![
            fine("It answers."),
            DoctorRow::red(
                Id::ReceiverCredential,
                format!("It knows us, and does not let us in: {said}."),
                hands.change_credential(),
            )
            .with("status_code", status),
        ],
        412 if json.is_some() => {
            vec![ours(), known(), commit_refused(facts, receiver, &said).with("status_code", status)]
        }
        400 if kind == Some(ProblemType::CommitMissing) => {
            vec![ours(), known(), commit_missing(facts, receiver, &said)]
        }
        404 if kind == Some(ProblemType::NotFound) && receiver.at_admission => {
            let summary =
                "A receiver answers, and has nothing at this path: receiver.url must end before /v1.";
            vec![DoctorRow::red(id, summary, hands.configure("reload")).with("status_code", status)]
        }
        404 | 405 | 501 => vec![fine(
            "A server answers. It is no receiver of ours (a web server, a bucket): what it takes is seen when an episode comes.",
        )],
        403 => vec![
            DoctorRow::green(
                id,
                "A server answers, and lets no caller ask. What it takes is seen when an episode comes.",
            )
            .with("status_code", status),
        ],
        300..=399 => {
            let there = location.map(|location| format!(" to {location}")).unwrap_or_default();
            let summary = format!(
                "{origin} answers {status}, which leads elsewhere{there}; no redirect is followed: set receiver.url to where it leads."
            );
            vec![odd(summary, hands.configure("reload"))]
        }
        408 | 425 | 429 => {
            vec![DoctorRow::yellow(id, format!("{origin} is busy: {said}."), look()).with("status_code", status)]
        }
        // It may be over with the next request; the daemon knows how long it lasts.
        500 | 502..=504 if !weather_has_lasted(facts) => {
            let passes = passes(facts, "That passes by itself");
            let summary =
                format!("{origin} answers, and can store nothing just now: {said}. {passes}");
            vec![DoctorRow::yellow(id, summary, look()).with("status_code", status).with("weather", true)]
        }
        500..=599 => {
            let weather = matches!(status, 500 | 502..=504);
            let summary = format!(
                "{origin} answers, and can store nothing just now: {said}. Its operator has to look."
            );
            vec![DoctorRow::red(id, summary, look()).with("status_code", status).with("weather", weather)]
        }
        400..=499 if kind.is_none() && status != 407 && taken.is_some() => {
            let ago = taken.unwrap_or_default();
            vec![fine(&format!(
                "Something answers that does not know the doctor's question ({said}). It is no receiver of ours, and took an episode {ago} ago."
            ))]
        }
        _ => {
            let summary = format!(
                "{origin} does not answer as a receiver does: {said}. Is receiver.url right, or does something stand between?"
            );
            vec![odd(summary, hands.configure("reload"))]
        }
    }
}

/// How long ago the daemon delivered an episode last, seconds; `None` where it has delivered none
/// since its start, or the receiver is held.
fn takes_episodes(facts: &Facts) -> Option<u64> {
    let DaemonState::Answers(snapshot) = &facts.daemon else {
        return None;
    };
    let destination = &snapshot.destination;
    destination
        .held
        .is_none()
        .then_some(destination.last_delivery_ago_s)
        .flatten()
}

fn weather_has_lasted(facts: &Facts) -> bool {
    let DaemonState::Answers(snapshot) = &facts.daemon else {
        return false;
    };
    snapshot
        .destination
        .held
        .as_ref()
        .is_some_and(HoldStatus::is_for_a_person)
}

/// What a receiver says, in a few words.
fn words(status: u16, json: Option<&Value>) -> String {
    let member = |name: &str| {
        json.and_then(|json| json.get(name)?.as_str())
            .map(str::trim)
            .filter(|text| !text.is_empty())
    };
    match member("detail").or_else(|| member("title")) {
        Some(text) => {
            let text: String = text.chars().take(MAX_SHOWN_CHARS).collect();
            format!("answered {status} with \"{text}\"")
        }
        None => format!("answered {status}"),
    }
}

fn clock(facts: &Facts, theirs: Option<WallTime>) -> DoctorRow {
    let (id, now) = (Id::Clock, facts.now);
    let fix = facts.hands.as_root("timedatectl set-ntp true");
    if now < RELEASED {
        return DoctorRow::red(
            id,
            format!("This host's clock says {now}, which is before this program was made."),
            fix,
        );
    }
    let Some(theirs) = theirs else {
        return DoctorRow::green(
            id,
            "This host's clock can be right; no receiver has said what time it is.",
        );
    };
    let ahead = now.unix_seconds() - theirs.unix_seconds();
    let apart = ahead.unsigned_abs();
    let how = if ahead > 0 { "ahead of" } else { "behind" };
    let summary = format!(
        "This host's clock is {} {how} the receiver's.",
        span(Duration::from_secs(apart))
    );
    let row = if apart > CLOCK_LIMIT_S {
        DoctorRow::red(
            id,
            format!("{summary} Nothing is removed by age until they agree."),
            fix,
        )
    } else if apart > CLOCK_SLACK_S {
        DoctorRow::yellow(id, summary, fix)
    } else {
        DoctorRow::green(id, "This host's clock agrees with the receiver's.")
    };
    row.with("ahead_s", ahead)
}
