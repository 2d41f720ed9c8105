//! Chromium's DevTools protocol over the pipe that `--remote-debugging-pipe` gives: JSON messages, each ended by NUL.

use serde_json::{Value, json};
use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
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

/// Why Chromium did not do as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DevToolsError {
    #[error("the browser's control pipe is closed")]
    Closed,
    #[error("the browser did not answer {0} in time")]
    Slow(&'static str),
    #[error("the browser refused {method}: {message}")]
    Refused { method: &'static str, message: String },
}

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Value>>>>;

fn lock(waiting: &Waiting) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Value>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One browser process's pipe.
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
    pub(crate) fn new(input: pipe::Sender, output: pipe::Receiver) -> Self {
        let waiting = Waiting::default();
        let answered = waiting.clone();
        let reader = tokio::spawn(async move {
            let _ = read(output, &answered).await;
            lock(&answered).clear(); // whoever still waits is told "closed"
        });
        Self { input: tokio::sync::Mutex::new(input), waiting, last: AtomicU64::new(0), reader }
    }

    /// Calls `method` of the browser itself; waits for the result at most `ms_max`.
    pub(crate) async fn call(&self, method: &'static str, params: Value, ms_max: u64) -> Result<Value, DevToolsError> {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let mut bytes = json!({ "id": id, "method": method, "params": params }).to_string().into_bytes();
        bytes.push(0);
        let (tell, told) = oneshot::channel();
        lock(&self.waiting).insert(id, tell);
        let exchange = async {
            self.input.lock().await.write_all(&bytes).await.map_err(|_| DevToolsError::Closed)?;
            told.await.map_err(|_| DevToolsError::Closed)
        };
        let answer = tokio::time::timeout(Duration::from_millis(ms_max), exchange).await;
        lock(&self.waiting).remove(&id);
        let mut answer = answer.map_err(|_| DevToolsError::Slow(method))??;
        match answer.get("error") {
            Some(error) => {
                let message = error["message"].as_str().unwrap_or("no reason given").chars().take(200).collect();
                Err(DevToolsError::Refused { method, message })
            }
            None => Ok(answer["result"].take()),
        }
    }
}

async fn read(mut output: pipe::Receiver, waiting: &Waiting) -> io::Result<()> {
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
            // What is too long has lost its end and does not parse; events have no id.
            if let Ok(message) = serde_json::from_slice::<Value>(&pending)
                && let Some(id) = message["id"].as_u64()
                && let Some(tell) = lock(waiting).remove(&id)
            {
                let _ = tell.send(message);
            }
            pending.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::children::{input_pipe, output_pipe};

    #[tokio::test]
    async fn answers_find_their_callers_and_errors_are_told() {
        let (from_agent, input) = input_pipe().unwrap();
        let (output, to_agent) = output_pipe().unwrap();
        let tools = DevTools::new(input, output);
        let browser = tokio::task::spawn_blocking(move || {
            let mut asked = [0; 4096];
            let mut text = String::new();
            while text.matches('\0').count() < 2 {
                let n = rustix::io::read(&from_agent, &mut asked).unwrap();
                text.push_str(std::str::from_utf8(&asked[..n]).unwrap());
            }
            let answers =
                "{\"method\":\"Noise\"}\0{\"id\":2,\"error\":{\"message\":\"no\"}}\0{\"id\":1,\"result\":{\"a\":1}}\0";
            rustix::io::write(&to_agent, answers.as_bytes()).unwrap();
            text
        });
        let one = tools.call("A.one", json!({}), 10_000);
        let two = tools.call("B.two", json!({ "x": 1 }), 10_000);
        let (one, two) = tokio::join!(one, two);
        assert_eq!(one.unwrap(), json!({ "a": 1 }));
        assert_eq!(two.unwrap_err().to_string(), "the browser refused B.two: no");
        assert!(browser.await.unwrap().contains("\"x\":1"));
        let closed = tools.call("C.three", json!({}), 10_000).await;
        assert!(matches!(closed, Err(DevToolsError::Closed)));
    }
}
