//! What the measurements share.

use anteroom_machine::{
    BoxBody, ControllerService,
    image::Image,
    kvm,
    qemu::{self, Hardware, Template, TemplateSettings},
};
use anteroom_wire::agent::Geometry;
use http_body_util::{BodyExt, Full};
use std::{path::Path, sync::Arc};

/// Answers every request of an agent.
pub(crate) fn no_service() -> ControllerService {
    Arc::new(|_, _| {
        let body: BoxBody = Full::from("{}").map_err(|never| match never {}).boxed_unsync();
        Box::pin(std::future::ready(hyper::Response::new(body)))
    })
}

/// Finds or prepares a template in `state`.
pub(crate) async fn template(
    keeper: &Path,
    image: &Image,
    state: &Path,
) -> Result<Template, Box<dyn std::error::Error>> {
    let qemu_program = qemu::find_qemu().ok_or("no qemu-system-x86_64 in PATH")?;
    let probe = kvm::ProbeSettings {
        qemu_program: Some(qemu_program.clone()),
        keeper_program: keeper.to_owned(),
        cache_dir: state.to_owned(),
        boot_ms_max: 15_000,
    };
    let report = kvm::probe(Some(image), &probe).await?;
    println!("{report}");
    let settings = TemplateSettings {
        templates_dir: state.join("templates"),
        qemu_program,
        keeper_program: keeper.to_owned(),
        hardware: Hardware::default(),
        geometry: Geometry { width: 1280, height: 800 },
        prepare_ms_max: 600_000,
        console_bytes_max: 16 * 1024,
    };
    let accelerator = report.qemu_accelerator();
    Ok(Template::find_or_prepare(image, &accelerator, &settings, |progress| println!("{progress:?}")).await?)
}
