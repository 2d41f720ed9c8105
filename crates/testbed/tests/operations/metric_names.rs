//! The names and the form of the metrics, after the conventions of Prometheus and OpenMetrics.

use crate::start_idle;
use anteroom_wire::TimelineKind;
use std::collections::{BTreeMap, BTreeSet};

/// A metric family.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    has_help: bool,
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

fn parse_labels(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split("\",").map(|pair| pair.split_once('=').unwrap());
    pairs.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect()
}

/// The families of a text in the OpenMetrics format; samples must follow the metadata of their family.
fn parse(text: &str) -> BTreeMap<String, Family> {
    let (mut families, mut current) = (BTreeMap::<String, Family>::new(), String::new());
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(metadata) = line.strip_prefix("# ") {
            let (keyword, rest) = metadata.split_once(' ').unwrap();
            let (name, text) = rest.split_once(' ').unwrap();
            assert!(name == current || !families.contains_key(name), "{name} is not together: {line}");
            name.clone_into(&mut current);
            let family = families.entry(current.clone()).or_default();
            match keyword {
                "TYPE" => text.clone_into(&mut family.kind),
                "HELP" => family.has_help = text.ends_with('.'),
                other => assert_eq!(other, "UNIT", "{line}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}');
        let labels = if labels.is_empty() { BTreeMap::new() } else { parse_labels(labels) };
        assert!(name.starts_with(current.as_str()), "{line} follows the metadata of {current}");
        let sample = Sample { name: name.to_owned(), labels, value: value.parse().unwrap() };
        families.get_mut(&current).unwrap().samples.push(sample);
    }
    families
}

fn check_family(name: &str, family: &Family) {
    let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
    assert!(name.starts_with("anteroom_") && name.bytes().all(is_plain), "{name}");
    assert!(family.has_help, "{name} has a sentence");
    for unit in ["_ms", "_milliseconds", "_minutes", "_mib", "_kib", "_kilobytes", "_percent"] {
        assert!(!name.contains(unit), "{name}: base units are seconds, bytes and ratios");
    }
    let allowed: &[&str] = match family.kind.as_str() {
        "counter" => &["_total", "_created"],
        "gauge" => &[""],
        "histogram" => &["_bucket", "_count", "_sum", "_created"],
        other => panic!("{name} is a {other}"),
    };
    assert!(family.kind == "counter" || !name.ends_with("_total"), "{name} is not a counter");
    let mut series = BTreeSet::new();
    for sample in &family.samples {
        assert!(allowed.iter().any(|suffix| sample.name == format!("{name}{suffix}")), "{sample:?} of {name}");
        assert!(sample.labels.keys().all(|label| label.bytes().all(is_plain) && label != name), "{sample:?}");
        assert!(series.insert((sample.name.clone(), sample.labels.clone())), "twice: {sample:?}");
        assert!(family.kind != "counter" || sample.value >= 0.0, "{sample:?}");
    }
}

/// Buckets are cumulative, end with `+Inf`, and the last one is the count.
fn check_histogram(name: &str, family: &Family) {
    let without_le = |sample: &Sample| {
        let labels = sample.labels.iter().filter(|(label, _)| *label != "le");
        labels.map(|(label, value)| format!("{label}={value}")).collect::<Vec<_>>().join(",")
    };
    let mut buckets: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for sample in family.samples.iter().filter(|sample| sample.name.ends_with("_bucket")) {
        let le = sample.labels["le"].replace("+Inf", "inf").parse().unwrap();
        buckets.entry(without_le(sample)).or_default().push((le, sample.value));
    }
    assert!(!buckets.is_empty(), "{name} has buckets");
    for (labels, buckets) in buckets {
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{name} {labels}: {buckets:?}");
        let last = buckets.last().unwrap();
        let of = |suffix: &str| {
            let wanted = format!("{name}{suffix}");
            family.samples.iter().find(|sample| sample.name == wanted && without_le(sample) == labels).unwrap().value
        };
        assert_eq!((last.0, last.1), (f64::INFINITY, of("_count")), "{name} {labels}");
        // A stage of a plain process can take less than a millisecond.
        assert!(of("_count") > 0.0 || of("_sum") == 0.0, "{name} {labels}: sum and count");
    }
}

#[tokio::test]
async fn metrics_follow_the_conventions_of_prometheus() {
    let (_flags, server) = start_idle("").await;
    let api = server.backend_client().unwrap();
    let id = api.start_session("scripted").await.unwrap().session.id;
    api.wait_entry(&id, TimelineKind::CliStarted).await.unwrap();
    let text = server.operator_client().unwrap().get("/metrics").await.unwrap().text;
    let families = parse(&text);
    let histograms: Vec<_> =
        families.iter().filter(|(_, family)| family.kind == "histogram").map(|(name, _)| name.as_str()).collect();
    assert!(histograms.contains(&"anteroom_start_duration_seconds"), "{histograms:?}");
    for (name, family) in &families {
        check_family(name, family);
        if family.kind == "histogram" {
            check_histogram(name, family);
        }
    }
    server.stop_and_check_leaks().await.unwrap();
}
