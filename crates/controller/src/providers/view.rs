//! API views of providers.

use anteroom_wire::{
    api::{MethodView, ProviderView, SettingView},
    provider::{MethodName, Provider, SettingRule, StoragePolicy},
};
use std::collections::BTreeMap;

/// The view of a provider. `clis` are the tools in the machine image (name → version).
pub fn to_provider_view(provider: &Provider, clis: &BTreeMap<String, String>) -> ProviderView {
    let version = clis.get(&provider.cli).cloned();
    let unavailable = if provider.storage_policy == StoragePolicy::Forbidden {
        Some(provider.storage_policy.sentence().to_owned())
    } else if version.is_none() && !provider.cli.is_empty() {
        Some(format!("the machine image has no {}", provider.cli))
    } else {
        None
    };
    ProviderView {
        id: provider.id.clone(),
        name: provider.name.clone(),
        version,
        lanes: provider.lanes.clone(),
        storage_policy: provider.storage_policy,
        policy_sentence: provider.storage_policy.sentence().to_owned(),
        methods: to_method_views(provider),
        available: unavailable.is_none(),
        tested_version: provider.tested_version.clone(),
        unavailable,
        without_account: provider.without_account,
        can_check: !provider.credential.status_argv.is_empty(),
        can_sign_out: !provider.logout_argv.is_empty(),
        settings: provider.settings.iter().map(to_setting_view).collect(),
    }
}

fn to_setting_view(setting: &SettingRule) -> SettingView {
    let SettingRule { id, label, pattern, expected_format, .. } = setting.clone();
    SettingView { id, label, pattern, expected_format }
}

/// The methods of a provider that a user can choose, the preferred one first.
pub fn to_method_views(provider: &Provider) -> Vec<MethodView> {
    let view = |(name, label): (&MethodName, &str)| {
        let method = provider.with_method(name)?;
        Some(MethodView { id: name.to_string(), label: label.to_owned(), lanes: method.lanes })
    };
    provider.method_labels().into_iter().filter_map(view).collect()
}
