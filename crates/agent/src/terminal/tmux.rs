//! tmux's control mode: one client process through which the agent sends commands to the server, and is notified of changes of the screen.
//!
//! Starting a program takes tens of milliseconds in an emulated machine, writing a line to this client does not. And text that is typed
//! through it (a pasted code) does not appear in the arguments of a process.

use std::{collections::VecDeque, io};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::unix::pipe,
    sync::{mpsc, oneshot, watch},
};

/// A longer line of tmux is truncated.
const LINE_BYTES_MAX: usize = 256 * 1024;
/// The most lines of one response.
const RESPONSE_LINES_MAX: usize = 2_000;
/// The most requests that wait.
pub(crate) const REQUESTS_MAX: usize = 32;

/// The message with which tmux rejected a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tmux returned an error: {0}")]
pub(crate) struct TmuxError(String);

/// A tmux command, and where its output goes.
pub(crate) struct TmuxRequest {
    pub(crate) command: String,
    pub(crate) respond: oneshot::Sender<Result<Vec<String>, TmuxError>>,
}

/// `text` as one argument of a tmux command: between single quotes no character is special.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Exchanges lines with one control client until it ends. `attached` is set once the session exists; `changes` counts changes of the
/// screen.
pub(crate) async fn run_control_mode(
    input: &mut pipe::Sender,
    output: pipe::Receiver,
    requests: &mut mpsc::Receiver<TmuxRequest>,
    attached: &watch::Sender<bool>,
    changes: &watch::Sender<u64>,
) -> io::Result<()> {
    let mut lines = BufReader::with_capacity(16 * 1024, output);
    let mut responses = ResponseParser::default();
    let mut line = Vec::new();
    loop {
        tokio::select! {
            request = requests.recv() => {
                let Some(request) = request else { return Ok(()) };
                input.write_all(format!("{}\n", request.command).as_bytes()).await?;
                responses.waiting.push_back(request.respond);
            }
            more = next_line(&mut lines, &mut line) => {
                if !more? {
                    return Ok(());
                }
                match responses.push_line(&String::from_utf8_lossy(&line)) {
                    Some(Notification::Output) => changes.send_modify(|count| *count += 1),
                    Some(Notification::Attached) => { attached.send_replace(true); }
                    None => {}
                }
                line.clear();
            }
        }
    }
}

/// The meaning of a line that is not part of a response.
#[derive(Debug, PartialEq, Eq)]
enum Notification {
    Output,
    Attached,
}

/// Parses responses, `%begin T N F` … `%end T N F`. Flag 1 marks the response to a command of this client.
#[derive(Default)]
struct ResponseParser {
    waiting: VecDeque<oneshot::Sender<Result<Vec<String>, TmuxError>>>,
    block: Option<Block>,
}

struct Block {
    tag: String,
    ours: bool,
    lines: Vec<String>,
}

impl ResponseParser {
    fn push_line(&mut self, line: &str) -> Option<Notification> {
        let Some(mut block) = self.block.take() else {
            if let Some(tag) = line.strip_prefix("%begin ") {
                let ours = tag.ends_with(" 1");
                self.block = Some(Block { tag: tag.to_owned(), ours, lines: Vec::new() });
                return None;
            }
            return match line.split(' ').next() {
                Some("%output" | "%extended-output" | "%layout-change") => Some(Notification::Output),
                Some("%session-changed") => Some(Notification::Attached),
                Some(_) | None => None,
            };
        };
        let is_end = line.strip_prefix("%end ").is_some_and(|tag| tag == block.tag);
        let is_error = line.strip_prefix("%error ").is_some_and(|tag| tag == block.tag);
        if !is_end && !is_error {
            if block.lines.len() < RESPONSE_LINES_MAX {
                block.lines.push(line.to_owned());
            }
            self.block = Some(block);
        } else if block.ours
            && let Some(respond) = self.waiting.pop_front()
        {
            let _ = respond.send(if is_end { Ok(block.lines) } else { Err(TmuxError(block.lines.join(" "))) });
        }
        None
    }
}

/// Reads a line without its line feed into `line`, truncated at the limit. `false`: end of the stream. Can be cancelled without loss.
async fn next_line(from: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> io::Result<bool> {
    loop {
        let available = from.fill_buf().await?;
        if available.is_empty() {
            return Ok(false);
        }
        let end = available.iter().position(|&b| b == b'\n');
        let part = &available[..end.unwrap_or(available.len())];
        let capacity = LINE_BYTES_MAX.saturating_sub(line.len());
        line.extend_from_slice(&part[..part.len().min(capacity)]);
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
    fn quote_cannot_end_its_argument() {
        assert_eq!(quote("a'; kill-server '"), r"'a'\''; kill-server '\'''");
    }

    #[test]
    fn responses_are_returned_in_order_and_a_spoofed_end_is_text() {
        let mut responses = ResponseParser::default();
        let (first, mut one) = oneshot::channel();
        let (second, mut two) = oneshot::channel();
        responses.waiting.extend([first, second]);
        let text = "%begin 1 7 0\n%end 1 7 0\n%session-changed $0 main\n%output %0 x\n%begin 2 8 1\n%end 9 9 1\nb\n%end 2 8 1\n%begin 3 9 1\nno\n%error 3 9 1";
        let notifications: Vec<_> = text.lines().filter_map(|line| responses.push_line(line)).collect();
        assert_eq!(notifications, [Notification::Attached, Notification::Output]);
        assert_eq!(one.try_recv().unwrap(), Ok(vec!["%end 9 9 1".into(), "b".into()]));
        assert_eq!(two.try_recv().unwrap(), Err(TmuxError("no".into())));
    }

    #[tokio::test]
    async fn length_of_a_line_is_limited() {
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
