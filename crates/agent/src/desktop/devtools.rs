//! Chromium's DevTools protocol over the pipe of `--remote-debugging-pipe`: JSON messages, each terminated by NUL.

use parking_lot::Mutex;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    sync::oneshot,
};

const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Why a call to Chromium failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DevToolsError {
    #[error("the browser's control pipe is closed")]
    Closed,
    #[error("the browser did not answer {0} in time")]
    Timeout(&'static str),
    #[error("the browser rejected {method}: {message}")]
    Rejected { method: &'static str, message: String },
}

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Value>>>>;

/// The pipe to one browser process.
pub(crate) struct DevTools {
    input: tokio::sync::Mutex<pipe::Sender>,
    waiting: Waiting,
    last: AtomicU64,
    reader: tokio::task::JoinHandle<()>,
}

impl Drop for DevTools {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl DevTools {
    /// `on_event` gets each event of the browser, and must not block.
    pub(crate) fn new(
        input: pipe::Sender,
        output: pipe::Receiver,
        on_event: impl Fn(&Value) + Send + Sync + 'static,
    ) -> Self {
        let waiting = Waiting::default();
        let answered = waiting.clone();
        let reader = tokio::spawn(async move {
            let _ = read(output, &answered, on_event).await;
            answered.lock().clear(); // calls that still wait fail as closed
        });
        Self { input: tokio::sync::Mutex::new(input), waiting, last: AtomicU64::new(0), reader }
    }

    /// Calls `method` of the browser, and waits for the result at most `ms_max` milliseconds.
    pub(crate) async fn call(&self, method: &'static str, params: Value, ms_max: u64) -> Result<Value, DevToolsError> {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let mut bytes = json!({ "id": id, "method": method, "params": params }).to_string().into_bytes();
        bytes.push(0);
        let (respond, response) = oneshot::channel();
        self.waiting.lock().insert(id, respond);
        let exchange = async {
            self.input.lock().await.write_all(&bytes).await.map_err(|_| DevToolsError::Closed)?;
            response.await.map_err(|_| DevToolsError::Closed)
        };
        let answer = tokio::time::timeout(Duration::from_millis(ms_max), exchange).await;
        self.waiting.lock().remove(&id);
        let mut answer = answer.map_err(|_| DevToolsError::Timeout(method))??;
        match answer.get("error") {
            Some(error) => {
                let message = error["message"].as_str().unwrap_or("no reason given").chars().take(200).collect();
                Err(DevToolsError::Rejected { method, message })
            }
            None => Ok(answer["result"].take()),
        }
    }
}

async fn read(mut output: pipe::Receiver, waiting: &Waiting, on_event: impl Fn(&Value)) -> io::Result<()> {
    let mut pending = Vec::new();
    let mut buf = vec![0; 16 * 1024];
    loop {
        let n = output.read(&mut buf).await?;
        if n == 0 {
            return Ok(());
        }
        for &byte in &buf[..n] {
            if byte != 0 {
                if pending.len() < MESSAGE_BYTES_MAX {
                    pending.push(byte);
                }
                continue;
            }
            // A message that is too long was truncated and does not parse. Events have no id.
            if let Ok(message) = serde_json::from_slice::<Value>(&pending) {
                let respond = message["id"].as_u64().map(|id| waiting.lock().remove(&id));
                match respond {
                    Some(Some(respond)) => drop(respond.send(message)),
                    Some(None) => {}
                    None => on_event(&message),
                }
            }
            pending.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::process::{input_pipe, output_pipe};

    #[tokio::test]
    async fn responses_reach_their_callers_and_errors_are_returned() {
        let (from_agent, input) = input_pipe().unwrap();
        let (output, to_agent) = output_pipe().unwrap();
        let (event, mut events) = tokio::sync::mpsc::unbounded_channel();
        let devtools = DevTools::new(input, output, move |message| event.send(message["method"].clone()).unwrap());
        let browser = tokio::task::spawn_blocking(move || {
            let mut bytes = [0; 4096];
            let mut text = String::new();
            while text.matches('\0').count() < 2 {
                let n = rustix::io::read(&from_agent, &mut bytes).unwrap();
                text.push_str(std::str::from_utf8(&bytes[..n]).unwrap());
            }
            let answers =
                "{\"method\":\"Noise\"}\0{\"id\":2,\"error\":{\"message\":\"no\"}}\0{\"id\":1,\"result\":{\"a\":1}}\0";
            rustix::io::write(&to_agent, answers.as_bytes()).unwrap();
            text
        });
        let one = devtools.call("A.one", json!({}), 10_000);
        let two = devtools.call("B.two", json!({ "x": 1 }), 10_000);
        let (one, two) = tokio::join!(one, two);
        assert_eq!(one.unwrap(), json!({ "a": 1 }));
        assert_eq!(two.unwrap_err().to_string(), "the browser rejected B.two: no");
        assert!(browser.await.unwrap().contains("\"x\":1"));
        assert_eq!(events.recv().await.unwrap(), "Noise");
        let closed = devtools.call("C.three", json!({}), 10_000).await;
        assert!(matches!(closed, Err(DevToolsError::Closed)));
    }
}
