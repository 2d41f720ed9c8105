//! `anteroom providers list`: asks the running server, or reads the configuration and the image of this host without one.

use super::super::{
    client::{ApiClient, ClientError},
    machine_environment::images_dir,
    print_line,
};
use crate::table::Table;
use anteroom_controller::{
    config::Config,
    providers::{Providers, to_provider_view},
};
use anteroom_machine::image::Image;
use anteroom_wire::{
    api::{ProviderList, ProviderView},
    provider::StoragePolicy,
};
use serde::Serialize;
use std::process::ExitCode;

pub(super) async fn run(config: &Config, client: &ApiClient, json: bool) -> anyhow::Result<ExitCode> {
    let list = match client.get("/api/providers").await {
        Ok(list) => list,
        Err(ClientError::NoServer { .. }) => list_locally(config)?,
        Err(error) => return Err(error.into()),
    };
    if json {
        print_line(serde_json::to_string_pretty(&list)?);
    } else {
        print_line(table(&list));
    }
    Ok(ExitCode::SUCCESS)
}

fn list_locally(config: &Config) -> anyhow::Result<ProviderList> {
    let providers = Providers::load(config).map_err(|errors| anyhow::anyhow!(errors.join("\n  ")))?;
    let image = Image::open_current(&images_dir(config));
    let clis = image.as_ref().map(|image| image.manifest.clis.clone()).unwrap_or_default();
    let mut views: Vec<ProviderView> = providers.iter().map(|provider| to_provider_view(provider, &clis)).collect();
    if image.is_err() {
        // Without an image no tool is available, whatever its version.
        for view in views.iter_mut().filter(|view| view.storage_policy != StoragePolicy::Forbidden) {
            view.unavailable = Some("there is no machine image; build one with: anteroom image build".to_owned());
        }
    }
    Ok(ProviderList { providers: views })
}

fn table(list: &ProviderList) -> Table {
    let mut table = Table::new(["id", "name", "version", "tested", "methods (lanes)", "policy", "available"]);
    for view in &list.providers {
        table.add_row(row(view));
    }
    table
}

fn row(view: &ProviderView) -> [String; 7] {
    let methods = view.methods.iter().map(|method| {
        let lanes: Vec<String> = method.lanes.iter().map(wire_name).collect();
        format!("{} ({})", method.id, lanes.join(", "))
    });
    let missing = || "–".to_owned();
    [
        view.id.to_string(),
        view.name.clone(),
        view.version.clone().unwrap_or_else(missing),
        view.tested_version.clone().unwrap_or_else(missing),
        methods.collect::<Vec<_>>().join("\n"),
        wire_name(view.storage_policy),
        view.unavailable.as_ref().map_or_else(|| "yes".to_owned(), |reason| format!("no: {reason}")),
    ]
}

/// The JSON name of a unit variant.
fn wire_name(value: impl Serialize) -> String {
    let value = serde_json::to_value(value).ok();
    value.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
