//! The page that the browser shows at the end: plain HTML without scripts or external resources.

use hyper::StatusCode;

/// The answer to the callback, shown in the browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallbackPage {
    pub(crate) status: StatusCode,
    title: String,
    text: String,
}

impl CallbackPage {
    pub(crate) fn new(status: StatusCode, title: &str, text: &str) -> Self {
        Self { status, title: title.to_owned(), text: text.to_owned() }
    }

    pub(crate) fn to_html(&self) -> String {
        let icon = if self.status.is_success() { ("&#10003;", "#2f7d4f") } else { ("!", "#b3261e") };
        format!(
            "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
             <title>{title}</title><style>body{{margin:0;min-height:100vh;display:grid;place-items:center;\
             background:#f4f6f8;color:#1c2530;font:17px/1.5 system-ui,sans-serif}}main{{max-width:30rem;margin:1.5rem;\
             padding:2.25rem 2.5rem;background:#fff;border:1px solid #d9e0e7;border-radius:12px}}\
             h1{{margin:.75rem 0 .25rem;font-size:1.5rem;line-height:1.25}}p{{margin:0;color:#4a5766}}\
             b{{display:grid;place-items:center;width:2.5rem;height:2.5rem;border-radius:50%;color:#fff;background:{colour}}}\
             </style><main><b aria-hidden=true>{icon}</b><h1>{title}</h1><p>{text}</p></main></html>",
            title = escape(&self.title),
            text = escape(&self.text),
            icon = icon.0,
            colour = icon.1,
        )
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_text_is_html_escaped() {
        let html = CallbackPage::new(StatusCode::OK, "<script>", "a & \"b\"").to_html();
        assert!(html.contains("&lt;script&gt;") && html.contains("a &amp; &quot;b&quot;"));
    }
}
