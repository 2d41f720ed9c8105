//! Opens the URLs that programs pass to `BROWSER`. The program there is the agent itself, which forwards the URL to the running agent.
//! Only here does the agent get the tool's complete URL.

use crate::{
    agent::Agent,
    desktop::browser,
    log,
    platform::local_socket::{FIRST_LINE_MS_MAX, LINE_BYTES_MAX, LocalRequest, OpenUrlResponse, socket_path},
};
use anteroom_screen::sign_in_finder;
use anteroom_wire::{
    agent::UrlSource,
    provider::{Lane, LinkFrom},
};
use std::{
    ffi::OsString,
    io::{self, BufRead, Read, Write},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

/// `browser URL`: forwards the URL to the agent. Exit code 0 when the agent has accepted it.
pub(crate) fn forward_url_to_agent(args: &[OsString]) -> ExitCode {
    let Some(url) = args.iter().filter_map(|arg| arg.to_str()).find(|arg| !arg.starts_with('-')) else {
        log::write_line("usage: browser URL");
        return ExitCode::from(2);
    };
    match request_open(url) {
        Ok(OpenUrlResponse::Accepted) => ExitCode::SUCCESS,
        Ok(OpenUrlResponse::Rejected(reason)) => {
            log::write_line(&reason);
            ExitCode::FAILURE
        }
        Err(error) => {
            log::write_line(&format!("the agent cannot be reached: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn request_open(url: &str) -> io::Result<OpenUrlResponse> {
    let mut stream = std::os::unix::net::UnixStream::connect(socket_path())?;
    let limit = Some(Duration::from_millis(FIRST_LINE_MS_MAX));
    stream.set_read_timeout(limit)?;
    stream.set_write_timeout(limit)?;
    let mut line = serde_json::to_string(&LocalRequest::OpenUrl(url.to_owned()))?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut response = String::new();
    io::BufReader::new(stream).take(LINE_BYTES_MAX).read_line(&mut response)?;
    Ok(serde_json::from_str(&response)?)
}

/// The agent's side: records the URL, and opens it in the machine's browser if the method uses that.
pub(crate) fn receive_url(agent: &Arc<Agent>, url: String) -> OpenUrlResponse {
    let Some(host) = sign_in_finder::web_url_host(&url) else {
        return OpenUrlResponse::Rejected("only http and https addresses can be opened".to_owned());
    };
    let claim = agent.claim.current();
    let link_from = claim.as_ref().map_or_else(LinkFrom::default, |claim| claim.provider.sign_in.link_from);
    let in_machine = claim.is_some_and(|claim| claim.provider.lanes.contains(&Lane::Desktop));
    let browser = agent.browser.as_ref().filter(|_| in_machine);
    // Before the URL is reported: no person is asked to act on a page that is not shown yet.
    if let Some(browser) = browser {
        browser.report_opening(&agent.events, &host);
    }
    agent.sign_in.add_url(url.clone(), UrlSource::BrowserCommand, link_from);
    if browser.is_some() {
        let agent = agent.clone();
        tokio::spawn(async move {
            if let Err(error) = browser::open_url(agent.browser.as_ref(), &agent.events, &url, &host).await {
                log::write_line(&format!("browser: {error}"));
            }
        });
    }
    OpenUrlResponse::Accepted
}
