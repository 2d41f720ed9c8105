//! Addresses as programs lay them out: in every layout and at every width, the whole address or none.

use super::*;
use unicode_width::UnicodeWidthStr;

const ADDRESSES: [&str; 4] = [
    "https://auth.example/oauth/authorize?response_type=code&client_id=app_XXXXXXXXXXXXXXXXXXXXXXXX&redirect_uri=http%3A%2F%2Flocalhost%3A1455%2Fauth%2Fcallback&scope=openid%20profile&state=SSSSSSSSSSSSSSSSSSSSSSSS&end=1",
    "https://claude.com/cai/oauth/authorize?code=true&client_id=9d1c250a-e61b-44d9-88ed-5944d1962f5e&response_type=code&redirect_uri=https%3A%2F%2Fplatform.claude.com%2Foauth%2Fcode%2Fcallback&scope=org%3Acreate_api_key+user%3Aprofile+user%3Ainference&code_challenge=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx&code_challenge_method=S256&state=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "https://accounts.google.com/o/oauth2/v2/auth?redirect_uri=https%3A%2F%2Fcodeassist.google.com%2Fauthcode&access_type=offline&scope=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fcloud-platform%20https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fuserinfo.email&code_challenge_method=S256&state=abcdefabcdef&response_type=code&client_id=000000000000-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx.apps.googleusercontent.com",
    "https://github.com/login/device",
];

/// Breaks `text` after exactly `columns`, the first line after `first`.
fn break_at(text: &str, first: usize, columns: usize) -> Vec<String> {
    let (mut lines, mut line, mut room) = (Vec::new(), String::new(), first);
    for c in text.chars() {
        if line.width() + c.to_string().width() > room {
            lines.push(std::mem::take(&mut line));
            room = columns;
        }
        line.push(c);
    }
    lines.push(line);
    lines
}

/// Breaks `text` after the last of `marks` that fits into `columns`.
fn break_after(text: &str, marks: &[char], columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest = text;
    while rest.len() > columns {
        let at = rest[..columns].rfind(marks).map_or(columns, |at| at + 1);
        lines.push(rest[..at].to_owned());
        rest = &rest[at..];
    }
    lines.push(rest.to_owned());
    lines
}

fn indent(lines: Vec<String>, first: usize, others: usize) -> Vec<String> {
    let indented = |(at, line): (usize, String)| format!("{}{line}", " ".repeat(if at == 0 { first } else { others }));
    lines.into_iter().enumerate().map(indented).collect()
}

/// A frame of `width` columns around lines, with `padding` columns on both sides.
fn frame(lines: &[String], width: usize, padding: usize, [top, side, bottom]: [&str; 3]) -> Vec<String> {
    let inner = width - 2 - 2 * padding;
    let blank = " ".repeat(padding);
    let mut out = vec![format!("{top}{}{top}", "-".repeat(width - 2))];
    out.extend(lines.iter().map(|line| {
        let fill = " ".repeat(inner - line.width());
        format!("{side}{blank}{line}{fill}{blank}{side}")
    }));
    out.push(format!("{bottom}{}{bottom}", "-".repeat(width - 2)));
    out
}

struct Layout {
    name: &'static str,
    /// The lines of an address on a screen.
    lines: fn(&str, usize) -> Vec<String>,
    /// The address is found at every width, not only never cut.
    is_always_found: bool,
}

const fn found(name: &'static str, lines: fn(&str, usize) -> Vec<String>) -> Layout {
    Layout { name, lines, is_always_found: true }
}

const LAYOUTS: [Layout; 17] = [
    found("at the last column", |url, width| break_at(url, width, width)),
    found("after a word", |url, width| break_at(&format!("Open: {url}"), width, width)),
    found("after wide characters", |url, width| break_at(&format!("请在浏览器中打开以下链接: {url}"), width, width)),
    found("indented", |url, width| indent(break_at(url, width - 2, width - 2), 2, 2)),
    found("continuation indented", |url, width| indent(break_at(url, width, width - 2), 0, 2)),
    found("margins of 4", |url, width| indent(break_at(url, width - 8, width - 8), 4, 4)),
    found("margins of 8", |url, width| indent(break_at(url, width - 16, width - 16), 8, 8)),
    found("right margin of 2", |url, width| break_at(url, width - 2, width - 2)),
    found("in a box", |url, width| frame(&break_at(url, width - 4, width - 4), width, 1, ["╭", "│", "╰"])),
    found("in a box without padding", |url, width| {
        frame(&break_at(url, width - 2, width - 2), width, 0, ["┌", "│", "└"])
    }),
    found("in a double box with a hanging indent", |url, width| {
        frame(&indent(break_at(url, width - 4, width - 6), 0, 2), width, 1, ["╔", "║", "╚"])
    }),
    found("in an ASCII box", |url, width| frame(&break_at(url, width - 4, width - 4), width, 1, ["+", "|", "+"])),
    found("in a wide box", |url, width| frame(&break_at(url, width - 10, width - 10), width, 4, ["┏", "┃", "┗"])),
    found("behind a bar", |url, width| {
        break_at(url, width - 3, width - 3).into_iter().map(|line| format!("│  {line}")).collect()
    }),
    found("in a column", |url, width| {
        let mut lines = break_at(url, width - 10, width - 10).into_iter();
        let first = format!("Address:  {}", lines.next().unwrap_or_default());
        std::iter::once(first).chain(lines.map(|line| format!("{}{line}", " ".repeat(10)))).collect()
    }),
    Layout {
        name: "broken after hyphens and slashes",
        lines: |url, width| break_after(url, &['-', '/', '?', '&'], width),
        is_always_found: false,
    },
    Layout {
        name: "with any right margin",
        lines: |url, width| break_at(url, width - width / 4, width - width / 4),
        is_always_found: false,
    },
];

#[test]
fn r34_an_address_in_any_layout_is_found_whole_or_not_at_all() {
    let finder = finder_for(r"https://\S+");
    let mut wrong = Vec::new();
    for Layout { name, lines, is_always_found } in &LAYOUTS {
        let (mut tried, mut whole) = (0, 0);
        for width in (34..=200).step_by(3) {
            // A rest that looks like a word, after a break at no edge, can be neither.
            let can_tell = |url: &&str| url.contains('?') || *is_always_found;
            for url in ADDRESSES.into_iter().filter(can_tell) {
                for below in [&["", "Paste the code here if prompted >"][..], &["Waiting for you to sign in…"], &[]] {
                    let mut text = vec!["To sign in, open this address:".to_owned(), String::new()];
                    text.extend(lines(url, width));
                    text.extend(below.iter().map(|&line| line.to_owned()));
                    let snapshot = ScreenSnapshot { lines: text, width, ..ScreenSnapshot::default() };
                    let found = finder.find(&snapshot).url.map(|found| found.text);
                    tried += 1;
                    whole += usize::from(found.as_deref() == Some(url));
                    if found.as_deref().is_some_and(|found| found != url) || *is_always_found && found.is_none() {
                        wrong.push(format!("{name}, {width} columns: {found:?} in\n{}", snapshot.text()));
                    }
                }
            }
        }
        println!("{name}: {whole} of {tried} found");
    }
    let count = wrong.len();
    wrong.truncate(5);
    assert!(wrong.is_empty(), "{count} wrong, for example\n{}", wrong.join("\n\n"));
}

#[test]
fn r34_what_closes_the_sentence_is_not_part_of_the_address() {
    let url = ADDRESSES[0];
    for text in [
        format!("To sign in open ({url})."),
        format!("Open {url}, then come back."),
        format!("Open <{url}> now"),
        format!("Open \"{url}\"."),
        format!("Open '{url}'"),
        format!("Open [this]({url})"),
        format!("Open **{url}**"),
        format!("Open `{url}`!"),
        format!("请打开{url}，然后返回"),
        format!("Open {url}。"),
        format!("「{url}」"),
    ] {
        assert_eq!(url_on(&screen(&[&text], 300)).as_deref(), Some(url), "{text}");
    }
    for url in [
        "https://a.example/wiki/Rust_(game)",
        "https://[::1]:8080/x",
        "https://a.example/x?y=(1)",
        "https://a.example/?q=a*b",
    ] {
        assert_eq!(url_on(&screen(&[url], 80)).as_deref(), Some(url));
        assert_eq!(url_on(&screen(&[&format!("({url}).")], 80)).as_deref(), Some(url));
    }
}

#[test]
fn r36_a_cut_address_is_not_taken() {
    for text in [
        // A border covers a character of each line.
        &["https://a.example/auth?redirect_uri=abc│", "ist.example%2Fauthcode&access_type=off│", "ine&end=1"][..],
        &["https://a.example/auth?redirect_uri=abc…", ""],
        &["https://a.example/auth?redirect_uri=abc...", ""],
        &["https://a.example/auth?redirect_uri=http%3", ""],
        &["https://a.example/auth?redirect_uri=http%", ""],
        &["│https://a.example/auth?redire│more text │", ""],
    ] {
        assert_eq!(url_on(&screen(text, 40)), None, "{text:?}");
    }
}

#[test]
fn r33_an_address_taller_than_the_screen_is_found_from_above_it() {
    for width in [34, 38, 60] {
        let url = ADDRESSES[1];
        let lines = break_at(url, width, width);
        for hidden in [1, lines.len() - 1, lines.len()] {
            let below = ["".to_owned(), "Paste code here if prompted >".to_owned()];
            let visible = [&lines[hidden..], &below].concat();
            let snapshot = ScreenSnapshot { lines: visible, width, ..ScreenSnapshot::default() };
            assert_eq!(url_on(&snapshot), None);
            let above = [&["Opening your browser".to_owned()][..], &lines[..hidden]].concat();
            assert_eq!(
                url_on(&snapshot.with_lines_above(&above)).as_deref(),
                Some(url),
                "{width} columns, {hidden} hidden"
            );
        }
        // The terminal joins its own breaks, but not those between the lines above and the screen.
        let (above, visible) = url.split_at(3 * width);
        let snapshot =
            ScreenSnapshot { lines: vec![visible.into(), "Paste".into()], width, ..ScreenSnapshot::default() };
        assert_eq!(url_on(&snapshot.with_lines_above(&[above.to_owned()])).as_deref(), Some(url));
    }
}

#[test]
fn a_code_below_an_address_is_not_part_of_it() {
    for code in ["ABCD-1234", "AB12-CD345", "123456", "Code: ABCD-1234"] {
        for width in [34, 80, 120] {
            let text = screen(&["  https://github.com/login/device", &format!("  {code}")], width);
            assert_eq!(url_on(&text).as_deref(), Some("https://github.com/login/device"), "{code}, {width} columns");
        }
    }
}
