//! Joins the lines that a program broke within an address.
//!
//! A program that does its layout itself breaks a long address at the last column, before a right margin, or at the border of a frame
//! that it draws, and may indent the continuation. A line that is merely below an address must not become part of it: lines are joined
//! only if the place of the break and the text after it are those of a broken address. Where that cannot be decided, the joined line is
//! marked, so that no part of an address is taken for all of it.

use unicode_width::UnicodeWidthStr;

/// The widest right margin that needs no other evidence, columns.
const MARGIN_COLS_MAX: usize = 4;
/// A continuation is indented by at most this much more than the first line, columns.
const HANGING_INDENT_COLS_MAX: usize = 4;
/// A word of at least this length is not prose.
const PROSE_CHARS_MAX: usize = 20;
/// Characters that programs draw vertical borders with.
const BORDERS: [char; 18] = ['|', '│', '┃', '║', '┆', '┇', '┊', '┋', '╎', '╏', '▏', '▎', '▍', '▌', '▐', '▕', '█', '¦'];
const DEVICE_CODE_CHARS_MAX: usize = 12;
/// What closes an address that a program puts in brackets or quotes, and is not part of an address.
const CLOSING: [char; 4] = ['>', '"', '`', '}'];
/// Programs break words after these.
const BREAK_AFTER: [char; 6] = ['-', '/', '?', '&', '=', ','];

/// A line of the screen with the continuations of its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JoinedLine {
    pub(super) text: String,
    /// The line below may be a continuation or not.
    pub(super) is_ambiguous: bool,
    /// The index of its last line on the screen.
    pub(super) last_row: usize,
}

/// The lines of a screen `width` columns wide, with broken addresses joined.
pub(super) fn join_wrapped_lines(lines: &[String], width: usize) -> Vec<JoinedLine> {
    let rows: Vec<Row<'_>> = lines.iter().map(|line| Row::parse(line, width)).collect();
    let mut joined = Vec::new();
    let mut at = 0;
    while at < rows.len() {
        let mut line = JoinedLine { text: lines[at].clone(), is_ambiguous: false, last_row: at };
        if let Some(mut address) = BrokenAddress::start(&rows, at) {
            while address.join_next() {}
            // A line without continuations keeps its frame: other patterns may match it.
            if address.last > at || address.is_ambiguous {
                line = JoinedLine { text: address.text, is_ambiguous: address.is_ambiguous, last_row: address.last };
            }
        }
        at = line.last_row + 1;
        joined.push(line);
    }
    joined
}

/// Whether a line reaches the last column, or the right margin.
pub(super) fn is_full_line(line: &str, width: usize) -> bool {
    let columns = line.width();
    width > MARGIN_COLS_MAX * 4 && columns <= width && columns + MARGIN_COLS_MAX >= width
}

/// Whether programs draw vertical borders with `c`.
pub(super) fn is_border(c: char) -> bool {
    BORDERS.contains(&c)
}

/// The columns inside a frame, or of the whole terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    /// The first column.
    left: usize,
    /// The column after the last one.
    right: usize,
}

/// A line without the frame around it.
#[derive(Debug, Clone, Copy)]
struct Row<'a> {
    frame: Frame,
    content: &'a str,
    /// The column of the first character of the content.
    start: usize,
    /// The column after the last character of the content.
    end: usize,
}

impl<'a> Row<'a> {
    fn parse(line: &'a str, width: usize) -> Self {
        let mut frame = Frame { left: 0, right: width };
        let (mut begin, mut end) = (0, line.trim_end().len());
        // Without a border on the left, one on the right belongs to the text: it may cover a part of it.
        let is_framed = line.trim_start().starts_with(is_border);
        if is_framed {
            let inner = &line[..end];
            let last =
                inner.char_indices().next_back().filter(|(at, c)| is_border(*c) && !inner[..*at].trim().is_empty());
            if let Some((at, _)) = last {
                frame.right = line[..at].width();
                end = at;
            }
            if let Some((at, border)) = line[..end].char_indices().rev().find(|(_, c)| is_border(*c)) {
                begin = at + border.len_utf8();
                frame.left = line[..begin].width();
            }
        }
        let content = line[begin..end].trim();
        let start = begin + (line[begin..end].len() - line[begin..end].trim_start().len());
        let start = line[..start].width();
        Self { frame, content, start, end: start + content.width() }
    }
}

/// What speaks for a break at the end of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Evidence {
    /// The line ends where others do not.
    None,
    /// The line ends near the edge.
    Near,
    /// The line ends at the last column that the program uses.
    Exact,
}

/// An address that goes on to the end of its line, and its continuations.
struct BrokenAddress<'a, 'b> {
    rows: &'b [Row<'a>],
    first: Row<'a>,
    /// The column in which the address begins.
    address_start: usize,
    last: usize,
    text: String,
    is_ambiguous: bool,
    /// The column after the last one that the program uses, once that is known.
    right: Option<usize>,
    /// The column in which continuations begin, once there is one.
    continuation_start: Option<usize>,
}

impl<'a, 'b> BrokenAddress<'a, 'b> {
    /// The address at the end of the line `at`, if there is one.
    fn start(rows: &'b [Row<'a>], at: usize) -> Option<Self> {
        let first = *rows.get(at)?;
        let blank = first.content.char_indices().rev().find(|(_, c)| c.is_whitespace());
        let word_at = blank.map_or(0, |(at, c)| at + c.len_utf8());
        let word = &first.content[word_at..];
        // The scheme itself may be broken.
        let next = rows.get(at + 1).map_or("", |next| next.content);
        let begins = word.contains("://")
            || first.end >= first.frame.right
                && ["https://", "http://"].iter().any(|scheme| {
                    scheme.strip_prefix(word).is_some_and(|rest| !word.is_empty() && next.starts_with(rest))
                });
        let address_at = word_at + word.find("http").unwrap_or(0);
        begins.then(|| Self {
            rows,
            first,
            address_start: first.start + first.content[..address_at].width(),
            last: at,
            text: first.content.to_owned(),
            is_ambiguous: false,
            right: None,
            continuation_start: None,
        })
    }

    /// Appends the next line if it continues the address. Returns whether the address may go on after it.
    fn join_next(&mut self) -> bool {
        let previous = self.rows[self.last];
        let Some(next) = self.rows.get(self.last + 1).copied() else { return false };
        let Some(word) = Word::of_address(next.content) else { return false };
        if next.frame != previous.frame || !self.is_aligned(next) {
            return false;
        }
        let continues = match self.evidence(previous, next) {
            // The address where a device code is entered has no query.
            _ if word.is_device_code && !self.text.contains('?') => false,
            Evidence::Exact => word.is_alone || word.is_marked,
            Evidence::Near => word.is_alone && word.is_marked,
            Evidence::None => {
                self.is_ambiguous = word.is_alone && word.is_strongly_marked && next.start == self.first.start;
                false
            }
        };
        if continues {
            self.text.push_str(next.content);
            self.continuation_start = Some(next.start);
            self.last += 1;
        }
        continues && word.is_alone && !word.is_closed
    }

    fn is_aligned(&self, next: Row<'_>) -> bool {
        let hanging = self.first.start..=self.first.start + HANGING_INDENT_COLS_MAX;
        match self.continuation_start {
            Some(start) => next.start == start,
            None => next.start == next.frame.left || next.start == self.address_start || hanging.contains(&next.start),
        }
    }

    fn evidence(&mut self, previous: Row<'_>, next: Row<'_>) -> Evidence {
        let Frame { left, right } = previous.frame;
        let left_margin = self.first.start - left;
        if previous.end > right {
            // The terminal wrapped the line: nothing shows where the program ended it.
            return Evidence::Near;
        }
        let at_edge = previous.end == right || self.right.is_some_and(|right| previous.end >= right);
        let symmetrical = left_margin > 0 && previous.end + left_margin == right;
        // Two lines of the same length, and a shorter one.
        let after = self.rows.get(self.last + 2);
        let like_next = previous.end == next.end
            && after.is_some_and(|after| {
                after.end <= next.end && Word::of_address(after.content).is_some_and(|it| it.is_alone)
            });
        if at_edge || symmetrical || like_next {
            self.right = Some(previous.end);
            return Evidence::Exact;
        }
        let wide_enough = right - left > MARGIN_COLS_MAX * 4;
        // A program that breaks between parts of an address breaks where the next part does not fit.
        let part = match previous.content.ends_with(BREAK_AFTER) {
            true => next.content.find(BREAK_AFTER).map_or(next.content.len(), |at| at + 1),
            false => 0,
        };
        let edge = self.right.unwrap_or(right.saturating_sub(MARGIN_COLS_MAX.max(left_margin.min(right / 4))));
        if wide_enough && previous.end + part >= edge { Evidence::Near } else { Evidence::None }
    }
}

/// The first word of a line that can continue an address.
struct Word {
    /// Nothing follows it.
    is_alone: bool,
    /// It ends with what closes the address.
    is_closed: bool,
    /// It is not a word of prose.
    is_marked: bool,
    /// It has the form of a device code.
    is_device_code: bool,
    /// It is hardly anything but a part of an address.
    is_strongly_marked: bool,
}

impl Word {
    fn of_address(content: &str) -> Option<Self> {
        let mut words = content.split_whitespace();
        let word = words.next()?;
        let first = word.trim_end_matches(CLOSING);
        let begins_another = first.starts_with("http://") || first.starts_with("https://");
        if begins_another || first.is_empty() || !first.chars().all(super::is_address_char) {
            return None;
        }
        let is_long = first.len() >= PROSE_CHARS_MAX;
        let has = |marks: &[u8]| first.bytes().any(|b| marks.contains(&b));
        let is_marked = is_long || first.bytes().any(|b| b.is_ascii_digit()) || has(b"%=&/_?#+~");
        let of_code = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-';
        Some(Self {
            is_alone: words.next().is_none(),
            is_closed: first != word,
            is_marked,
            is_device_code: first.len() <= DEVICE_CODE_CHARS_MAX && first.bytes().all(of_code),
            is_strongly_marked: is_long || has(b"%=&"),
        })
    }
}
