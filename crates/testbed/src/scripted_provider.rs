//! A provider whose tool follows a script.

use crate::{Script, Step};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

/// A provider for a [`TestConfig`](crate::TestConfig): the script of its tool, and its descriptor.
#[derive(Debug, Clone)]
pub struct ScriptedProvider {
    id: String,
    script: Script,
    status: Option<Script>,
    methods: BTreeMap<String, Script>,
    descriptor: Value,
}

impl ScriptedProvider {
    /// The default path of the tool's credential, relative to its home directory.
    pub const CREDENTIAL_PATH: &str = ".scripted/auth.json";

    /// A provider `id` with this script. By default its credential is [`Self::CREDENTIAL_PATH`] with a `/token`, and the egress gate
    /// denies it every connection.
    pub fn new(id: &str, script: Script) -> Self {
        let descriptor = json!({
            "id": id,
            "name": "Scripted tool",
            "cli": id,
            "lanes": ["link", "terminal"],
            "next_action": "Do what the test says.",
            "sign_in_hosts": ["id.example", "a.example", "b.example", "new.example"],
            "sign_in": { "url": r"https?://[^\s]+", "code": r"code: ([A-Z0-9-]+)" },
            "credential": { "paths": [Self::CREDENTIAL_PATH], "required": ["/token"] },
            "egress": [],
            "policy": "store",
        });
        Self { id: id.to_owned(), script, status: None, methods: BTreeMap::new(), descriptor }
    }

    /// A provider `id` whose tool waits until the machine ends.
    pub fn idle(id: &str) -> Self {
        let wait = Step::WaitForFile { path: "never".into(), ms_max: 3_600_000 };
        Self::new(id, Script::new([Step::print_line("Nothing to do"), wait]))
    }

    /// Adds a status command that follows `status`; its output must match the pattern `matches`.
    #[must_use]
    pub fn with_status(mut self, status: Script, matches: &str) -> Self {
        self.status = Some(status);
        self.descriptor["credential"]["status_matches"] = json!(matches);
        self
    }

    /// Adds a method that runs `script`; `keys` are the method's keys in the descriptor, without `argv`.
    #[must_use]
    pub fn with_method(mut self, name: &str, script: Script, keys: Value) -> Self {
        self.methods.insert(name.to_owned(), script);
        self.descriptor["methods"][name] = keys;
        self
    }

    /// Allows connections to this host and port.
    #[must_use]
    pub fn with_egress(mut self, host: &str, port: u16) -> Self {
        if let Some(rules) = self.descriptor["egress"].as_array_mut() {
            rules.push(json!({ "host": host, "ports": [port] }));
        }
        self
    }

    /// Sets any other key of the descriptor; `argv`: the command that is run instead of the script.
    #[must_use]
    pub fn with_descriptor_key(mut self, key: &str, value: Value) -> Self {
        self.descriptor[key] = value;
        self
    }

    /// Removes a key of the descriptor, which another release does not know.
    #[must_use]
    pub fn without_descriptor_key(mut self, key: &str) -> Self {
        if let Some(descriptor) = self.descriptor.as_object_mut() {
            descriptor.remove(key);
        }
        self
    }

    /// The provider's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Writes the descriptor and the scripts.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write_descriptor(&self, providers: &Path, scripts: &Path, testbed: &Path) -> io::Result<()> {
        let command = |name: &str, script: &Script| -> io::Result<Value> {
            let file: PathBuf = scripts.join(format!("{}-{name}.json", self.id));
            script.save(&file)?;
            Ok(json!([testbed, "tool", file]))
        };
        let mut descriptor = self.descriptor.clone();
        if descriptor.get("argv").is_none() {
            descriptor["argv"] = command("sign-in", &self.script)?;
        }
        if let Some(status) = &self.status {
            descriptor["credential"]["status_argv"] = command("status", status)?;
        }
        for (name, script) in &self.methods {
            descriptor["methods"][name]["argv"] = command(&format!("method-{name}"), script)?;
        }
        let text = toml::to_string(&descriptor).map_err(io::Error::other)?;
        std::fs::write(providers.join(format!("{}.toml", self.id)), text)
    }
}
