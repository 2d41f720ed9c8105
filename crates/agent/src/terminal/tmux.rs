//! tmux's control mode: one client process through which the agent asks the server, and hears that the screen changed.
//!
//! Starting a program costs tens of milliseconds in an emulated machine; a line on this client's input costs none, and
//! what is typed on it (a pasted code) stands in nobody's argument list.

use std::{collections::VecDeque, io};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::unix::pipe,
    sync::{mpsc, oneshot, watch},
};

/// A line of tmux's that is longer is cut.
const LINE_BYTES_MAX: usize = 256 * 1024;
/// Lines of one answer.
const ANSWER_LINES_MAX: usize = 2_000;
/// Questions that wait.
pub(crate) const ASKS_MAX: usize = 32;

/// A command and who waits for its output; tmux's own complaint is the error.
pub(crate) struct Ask {
    pub(crate) line: String,
    pub(crate) answer: oneshot::Sender<Result<Vec<String>, String>>,
}

/// `text` as one argument of a tmux command: between single quotes nothing has a meaning.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Speaks with one control client until it ends. `attached` is told once the session is there; `output` counts changes
/// of the screen.
pub(crate) async fn converse(
    input: &mut pipe::Sender,
    output: pipe::Receiver,
    asks: &mut mpsc::Receiver<Ask>,
    attached: &watch::Sender<bool>,
    changes: &watch::Sender<u64>,
) -> io::Result<()> {
    let mut lines = BufReader::with_capacity(16 * 1024, output);
    let mut reply = Reply::default();
    let mut line = Vec::new();
    loop {
        tokio::select! {
            ask = asks.recv() => {
                let Some(ask) = ask else { return Ok(()) };
                input.write_all(format!("{}\n", ask.line).as_bytes()).await?;
                reply.waiting.push_back(ask.answer);
            }
            more = next_line(&mut lines, &mut line) => {
                if !more? {
                    return Ok(());
                }
                match reply.take(&String::from_utf8_lossy(&line)) {
                    Some(Notice::Output) => changes.send_modify(|count| *count += 1),
                    Some(Notice::Attached) => { attached.send_replace(true); }
                    None => {}
                }
                line.clear();
            }
        }
    }
}

/// What a line says that is not part of an answer.
#[derive(Debug, PartialEq, Eq)]
enum Notice {
    Output,
    Attached,
}

/// `%begin T N F` … `%end T N F`: flag 1 marks the answer to a line of ours.
#[derive(Default)]
struct Reply {
    waiting: VecDeque<oneshot::Sender<Result<Vec<String>, String>>>,
    block: Option<Block>,
}

struct Block {
    tag: String,
    ours: bool,
    lines: Vec<String>,
}

impl Reply {
    fn take(&mut self, line: &str) -> Option<Notice> {
        let Some(mut block) = self.block.take() else {
            if let Some(tag) = line.strip_prefix("%begin ") {
                let ours = tag.ends_with(" 1");
                self.block = Some(Block { tag: tag.to_owned(), ours, lines: Vec::new() });
                return None;
            }
            return match line.split(' ').next() {
                Some("%output" | "%extended-output" | "%layout-change") => Some(Notice::Output),
                Some("%session-changed") => Some(Notice::Attached),
                Some(_) | None => None,
            };
        };
        let good = line.strip_prefix("%end ").is_some_and(|tag| tag == block.tag);
        let bad = line.strip_prefix("%error ").is_some_and(|tag| tag == block.tag);
        if !good && !bad {
            if block.lines.len() < ANSWER_LINES_MAX {
                block.lines.push(line.to_owned());
            }
            self.block = Some(block);
        } else if block.ours
            && let Some(answer) = self.waiting.pop_front()
        {
            let _ = answer.send(if good { Ok(block.lines) } else { Err(block.lines.join(" ")) });
        }
        None
    }
}

/// Reads a line without its end into `line` (cut at the limit). `false`: no more. Loses nothing when dropped half-way.
async fn next_line(from: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> io::Result<bool> {
    loop {
        let available = from.fill_buf().await?;
        if available.is_empty() {
            return Ok(false);
        }
        let end = available.iter().position(|&b| b == b'\n');
        let part = &available[..end.unwrap_or(available.len())];
        let room = LINE_BYTES_MAX.saturating_sub(line.len());
        line.extend_from_slice(&part[..part.len().min(room)]);
        let used = part.len() + usize::from(end.is_some());
        from.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_cannot_leave_its_argument() {
        assert_eq!(quoted("a'; kill-server '"), r"'a'\''; kill-server '\'''");
    }

    #[test]
    fn answers_reach_their_askers_in_order_and_a_spoofed_end_is_text() {
        let mut reply = Reply::default();
        let (first, mut one) = oneshot::channel();
        let (second, mut two) = oneshot::channel();
        reply.waiting.extend([first, second]);
        let text = "%begin 1 7 0\n%end 1 7 0\n%session-changed $0 main\n%output %0 x\n%begin 2 8 1\n%end 9 9 1\nb\n%end 2 8 1\n%begin 3 9 1\nno\n%error 3 9 1";
        let notices: Vec<_> = text.lines().filter_map(|line| reply.take(line)).collect();
        assert_eq!(notices, [Notice::Attached, Notice::Output]);
        assert_eq!(one.try_recv().unwrap(), Ok(vec!["%end 9 9 1".into(), "b".into()]));
        assert_eq!(two.try_recv().unwrap(), Err("no".into()));
    }

    #[tokio::test]
    async fn a_line_without_end_is_bounded() {
        let long = [vec![b'x'; LINE_BYTES_MAX * 2], b"\nnext\n".to_vec()].concat();
        let mut from = BufReader::new(&long[..]);
        let mut line = Vec::new();
        assert!(next_line(&mut from, &mut line).await.unwrap());
        assert_eq!(line.len(), LINE_BYTES_MAX);
        line.clear();
        assert!(next_line(&mut from, &mut line).await.unwrap());
        assert_eq!(line, b"next");
    }
}
