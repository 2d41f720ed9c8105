//! `anteroom doctor --public-url`: checks this server's own address through the reverse proxy in front of it.

use super::super::{client::ApiClient, one_line, print_line, progress::Wait};
use anteroom_controller::{
    config::Config,
    public_url_check::{StepReport, StepStatus, check_public_url},
};
use anteroom_server::http::LoginLink;
use anteroom_wire::Secret;
use anyhow::Context;
use http::Method;
use owo_colors::{OwoColorize, Stream::Stdout};
use std::process::ExitCode;

pub(crate) async fn run(config: &Config, client: &ApiClient, json: bool) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        config.public_url.is_some(),
        "public_url is not set: it is the address that browsers show, such as https://anteroom.example"
    );
    let link: LoginLink = client.call(Method::POST, "/api/links", None::<&()>).await?;
    let login_token = link.url.split_once("#login_token=").context("the server's link has no login token")?.1;
    let wait = Wait::begin("Opening the pages through the proxy…");
    let report = check_public_url(config, &Secret::new(login_token.to_owned())).await?;
    drop(wait);
    if json {
        print_line(serde_json::to_string_pretty(&report)?);
    } else {
        print_line(format_args!("{}", report.public_url));
        report.steps.iter().for_each(print_step);
    }
    let works = report.steps.iter().all(|step| step.status == StepStatus::Ok);
    Ok(if works { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_step(step: &StepReport) {
    let mark = match step.status {
        StepStatus::Ok => "ok     ".if_supports_color(Stdout, |mark| mark.green()).to_string(),
        StepStatus::Failed => "FAILED ".if_supports_color(Stdout, |mark| mark.red()).to_string(),
        StepStatus::Skipped => "skipped".if_supports_color(Stdout, |mark| mark.dimmed()).to_string(),
    };
    print_line(format_args!("{mark} {:<14} {} ms", step.name, step.took_ms));
    if let Some(failure) = &step.failure {
        print_line(format_args!("        {}: {}", failure.cause, one_line(&failure.detail)));
        print_line(format_args!("        {}", failure.remedy));
    }
}
