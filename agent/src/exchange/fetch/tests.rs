use super::*;
use crate::exchange::payload::WRITES;

#[test]
fn what_a_list_says_is_dated_by_our_clock_and_stays_so() {
    let heard = heard(at(100));
    let first =
        heard.understand(&list("1", &[("a", Some(10_000)), ("b", None)], "70000"), "n", None, &rules());
    let (result, known, _) = first.unwrap();
    assert_eq!(result, FetchResult::Ok);
    // The peer's clock showed 70 s between 100.0 s and 100.2 s of ours.
    let middle = at(100) + Duration::from_millis(100);
    assert_eq!(since(&known, "a"), Some(middle.back(Duration::from_mins(1))));
    assert_eq!(since(&known, "b"), None);
    assert_eq!((known.view.asked_at, known.view.watch_age), (at(100), Some(Duration::ZERO)));
    // Three seconds later the answer travels otherwise; a new pod is there, and b was seen to begin.
    let later = Heard { middle: at(103) + Duration::from_millis(900), ..self::heard(at(103)) };
    let second = list("1", &[("a", Some(10_000)), ("b", Some(71_000)), ("c", Some(72_000))], "73000");
    let (_, again, _) = later.understand(&second, "n", Some(&known), &rules()).unwrap();
    assert_eq!(since(&again, "a"), since(&known, "a"));
    assert_eq!(since(&again, "b"), Some(later.middle.back(Duration::from_secs(2))));
    assert_eq!(since(&again, "c"), Some(later.middle.back(Duration::from_secs(1))));
    // Another run of that agent has another clock.
    let restarted = list("2", &[("a", Some(10_000))], "10000");
    let (_, other, _) = later.understand(&restarted, "n", Some(&again), &rules()).unwrap();
    assert_eq!(since(&other, "a"), Some(later.middle));
}

#[test]
fn not_modified_confirms_the_list_as_of_now() {
    let (_, known, _) =
        heard(at(1)).understand(&list("1", &[("a", None)], "1"), "n", None, &rules()).unwrap();
    let answer = not_modified(&[("etag", "W/\"1\""), ("podsonar-watch-age", "9000")]);
    let (result, again, _) = heard(at(4)).understand(&answer, "n", Some(&known), &rules()).unwrap();
    assert_eq!(result, FetchResult::NotModified);
    assert_eq!((again.view.asked_at, again.view.watch_age), (at(4), Some(Duration::from_secs(9))));
    assert_eq!(again.view.pods, known.view.pods);
    assert!(!again.view.is_live());
}

#[test]
fn whether_the_peer_probes_us_is_what_its_last_answer_says() {
    let mut known = None;
    for (said, meant) in [("1", Some(true)), ("0", Some(false)), ("", None), ("2", None), ("yes", None)] {
        let headers = [(PROBES_YOU, said), ("etag", "W/\"1\"")];
        let answer = match &known {
            None => Answer { headers: headers_of(&headers), ..list("1", &[], "1") },
            Some(_) => not_modified(&headers),
        };
        let (_, again, _) = heard(at(1)).understand(&answer, "n", known.as_ref(), &rules()).unwrap();
        assert_eq!(again.view.probes_us, meant, "{said}");
        known = Some(again);
    }
}

#[test]
fn not_modified_is_no_answer_to_who_knows_nothing_or_something_else() {
    let heard = heard(at(1));
    let (_, known, _) = heard.understand(&list("1", &[], "1"), "n", None, &rules()).unwrap();
    let understand = |answer: &Answer, known| heard.understand(answer, "n", known, &rules()).map(|_| ());
    assert_eq!(understand(&not_modified(&[]), None), Err(FetchResult::Malformed));
    assert_eq!(understand(&not_modified(&[]), Some(&known)), Ok(()));
    assert_eq!(understand(&not_modified(&[("etag", "W/\"2\"")]), Some(&known)), Err(FetchResult::Malformed));
    let untagged = Known { etag: None, ..known.clone() };
    assert_eq!(understand(&not_modified(&[]), Some(&untagged)), Err(FetchResult::Malformed));
}

#[test]
fn headers_that_make_no_sense_are_missing_ones() {
    for (clock, age) in [("x", "-1"), ("", "1e9"), ("99999999999999999999", "99999999999999999999")] {
        let mut answer = list("1", &[("a", Some(5))], clock);
        answer.headers.insert(WATCH_AGE, HeaderValue::from_str(age).unwrap());
        let (_, known, _) = heard(at(1)).understand(&answer, "n", None, &rules()).unwrap();
        assert_eq!((since(&known, "a"), known.view.watch_age), (None, None), "{clock} {age}");
    }
    // Ages beyond all time, and pods from the future.
    for (clock, running) in [("18446744073709551615", 0), ("0", u64::MAX)] {
        let answer = list("1", &[("a", Some(running))], clock);
        let (_, known, _) = heard(at(1)).understand(&answer, "n", None, &rules()).unwrap();
        assert!(since(&known, "a").unwrap() <= at(2));
    }
    let mut answer = list("1", &[], "1");
    answer.headers.insert(header::ETAG, HeaderValue::from_str(&"x".repeat(MAX_ETAG + 1)).unwrap());
    let (_, known, _) = heard(at(1)).understand(&answer, "n", None, &rules()).unwrap();
    assert_eq!(known.etag, None);
}

#[test]
fn the_address_that_answered_last_is_asked_and_told() {
    let (_, known, _) = heard(at(1)).understand(&list("1", &[], "1"), "n", None, &rules()).unwrap();
    let request = ask_for_list("[2001:db8::1]:19989".parse().unwrap(), Some(&known));
    assert_eq!(request.headers()["host"], "[2001:db8::1]:19989");
    assert_eq!(request.headers()["if-none-match"], "W/\"1\"");
    assert_eq!((request.method().as_str(), request.uri().path()), ("GET", "/v1/node"));
    assert!(!ask_for_list("192.0.2.1:1".parse().unwrap(), None).headers().contains_key("if-none-match"));
}

#[test]
fn of_two_failures_the_one_that_shows_life_counts() {
    use FetchResult::{NotSent, Reset, Timeout, Unreachable};
    for (one, other, told) in [
        (NotSent, Timeout, Timeout),
        (Timeout, Unreachable, Unreachable),
        (Unreachable, Reset, Reset),
        (NotSent, NotSent, NotSent),
    ] {
        assert_eq!((more_telling(one, other), more_telling(other, one)), (told, told));
    }
}

#[tokio::test(start_paused = true)]
async fn one_byte_a_second_is_too_slow_however_long_it_goes_on() {
    use tokio::io::AsyncWriteExt;
    let (ours, mut theirs) = tokio::io::duplex(1 << 16);
    let trickle = async {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n";
        for byte in head.iter().copied().chain(std::iter::repeat(b' ')) {
            time::sleep(Duration::from_secs(1)).await;
            if theirs.write_all(&[byte]).await.is_err() {
                break;
            }
        }
    };
    let mut heard = None;
    let request = ask_for_list("192.0.2.1:1".parse().unwrap(), None);
    let fetch = time::timeout(Duration::from_mins(5), http::ask(ours, request, || at(9), &mut heard));
    let ((), told) = tokio::join!(trickle, fetch);
    assert!(told.is_err());
    // The headers were there after 42 s.
    assert_eq!(heard, Some(at(9)));
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(512))]

    /// From noise to nearly an answer: something comes of it, and soon.
    #[test]
    fn whatever_a_peer_sends_the_fetch_ends(
        begins in 0..SPEECHES.len(),
        noise in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        cut in 0..400_usize,
    ) {
        let begin = SPEECHES[begins].as_bytes();
        let speech: Vec<u8> = begin.iter().copied().take(cut).chain(noise).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let told = runtime.unwrap().block_on(async {
            let (ours, mut theirs) = tokio::io::duplex(1 << 16);
            tokio::io::AsyncWriteExt::write_all(&mut theirs, &speech).await.unwrap();
            tokio::io::AsyncWriteExt::shutdown(&mut theirs).await.unwrap();
            let request = ask_for_list("192.0.2.1:1".parse().unwrap(), None);
            let mut heard = None;
            // The clock is paused: time passes only if nothing else can happen.
            time::timeout(Duration::from_mins(1), http::ask(ours, request, || at(9), &mut heard)).await
        });
        let told = told.expect("an end without waiting");
        if let Ok(answer) = told {
            let _ = heard(at(1)).understand(&answer, "n", None, &rules());
        }
    }
}

/// How an answer may begin.
const SPEECHES: [&str; 6] = [
    "",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 180\r\ncontent-encoding: gzip\r\n\r\n\u{1f}",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n10\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 90\r\netag: x\r\n\r\n{\"version\":1,\"node\":\"n\",\"epoch\":\"7\",\"pods\":[{\"uid\":",
    "HTTP/1.1 304 Not Modified\r\netag: ",
];

fn heard(began: Instant) -> Heard {
    Heard { began, middle: began + Duration::from_millis(100), address: [192, 0, 2, 1].into() }
}

fn list(epoch: &str, pods: &[(&str, Option<u64>)], clock: &str) -> Answer {
    let pod = |(number, (uid, running)): (usize, &(&str, Option<u64>))| {
        let running = running.map_or_else(|| "null".into(), |running| running.to_string());
        format!(
            "{{\"uid\":\"{uid}\",\"namespace\":\"d\",\"name\":\"{uid}\",\"ips\":[\"10.0.0.{number}\"],\
             \"running_ms\":{running}}}"
        )
    };
    let pods: Vec<_> = pods.iter().enumerate().map(pod).collect();
    let body = format!(
        "{{\"version\":{WRITES},\"node\":\"n\",\"epoch\":\"{epoch}\",\"pods\":[{}]}}",
        pods.join(",")
    );
    let etag = format!("W/\"{epoch}\"");
    let headers = [("etag", &*etag), (CLOCK, clock), (WATCH_AGE, "0")];
    Answer { headers: headers_of(&headers), body: Some(body.into_bytes()) }
}

fn not_modified(headers: &[(&str, &str)]) -> Answer {
    Answer { headers: headers_of(headers), body: None }
}

fn headers_of(headers: &[(&str, &str)]) -> HeaderMap {
    let header = |(name, value): &(&str, &str)| {
        (axum::http::HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap())
    };
    headers.iter().map(header).collect()
}

fn since(known: &Known, uid: &str) -> Option<Instant> {
    known.view.pod(uid).expect("the pod is there").running_since
}

fn rules() -> Rules {
    Rules::default()
}

fn at(seconds: u64) -> Instant {
    Instant::from_nanos(seconds * 1_000_000_000)
}
