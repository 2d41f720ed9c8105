//! The pages of the demo provider: plain HTML with one inline style, without scripts and external resources.

use super::accounts::NAMED_ACCOUNTS;
use axum::{
    http::StatusCode,
    response::{Html, IntoResponse, Response},
};

/// Plain colors and no shadows: fast to render in software, and a test can find the button by its color.
const STYLE: &str = "body{margin:0;background:#f4f4f2;color:#1b1b1b;font:18px/1.5 sans-serif;text-align:center}\
main{max-width:560px;margin:0 auto;padding:56px 24px}h1{font-size:28px;margin:0 0 24px}\
label{display:block;margin:0 0 8px}input{font:inherit;padding:12px;width:320px;border:2px solid #555;background:#fff}\
button{font:inherit;border:0;cursor:pointer}\
.next{display:block;margin:24px auto 0;padding:14px 40px;background:#1f4b99;color:#fff}\
.allow{display:block;margin:32px auto 0;width:360px;height:120px;background:#0a7d33;color:#fff;font-size:34px;font-weight:bold}\
.alert{border:2px solid #a3122a;padding:8px;color:#a3122a}code{display:block;padding:12px;border:2px solid #555;background:#fff;overflow-wrap:anywhere}\
.deny{display:block;margin:32px auto 0;padding:10px 28px;background:#ddd;color:#1b1b1b}";

/// Escapes text for use between tags and in quoted attributes.
fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
        out
    })
}

fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head>\
         <body><main><h1>{title}</h1>{body}</main></body></html>"
    );
    (status, Html(html)).into_response()
}

/// `GET /`
pub(super) async fn get_index_page() -> Response {
    let accounts: String =
        NAMED_ACCOUNTS.iter().map(|(name, what)| format!("<dt><b>{name}</b></dt><dd>{what}</dd>")).collect();
    page(
        StatusCode::OK,
        "Anteroom demo sign-in",
        &format!(
            "<p>This is the identity provider of the demo. A program sends you here to sign in.</p>\
             <p><a href=\"device\">Enter a device code</a> · <a href=\"key\">Make an API key</a></p>\
             <p>Any name works. These behave differently:</p><dl>{accounts}</dl>"
        ),
    )
}

/// The paragraph of a page that was not accepted.
fn alert(text: Option<&str>) -> String {
    text.map_or_else(String::new, |text| format!("<p class=\"alert\" role=\"alert\">{}</p>", escape(text)))
}

const NAME_FIELD: &str = "<label for=\"name\">Your name (any will do)</label>\
     <input id=\"name\" name=\"name\" required maxlength=\"100\" autocomplete=\"off\">";

/// The page on which a person enters the code that a program shows.
pub(super) fn render_device_page(user_code: &str, rejected: Option<&str>) -> Response {
    let (alert, user_code) = (alert(rejected), escape(user_code));
    let status = if rejected.is_some() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    page(
        status,
        "Enter your code",
        &format!(
            "<form method=\"post\" action=\"device\">{alert}\
             <label for=\"code\">The code that the program shows</label>\
             <input id=\"code\" name=\"user_code\" required maxlength=\"20\" autocomplete=\"off\" value=\"{user_code}\" autofocus>\
             <p></p>{NAME_FIELD}<button class=\"next\">Continue</button></form>"
        ),
    )
}

/// Asks for consent to a device code.
pub(super) fn render_device_consent_page(user_code: &str, client: &str, name: &str) -> Response {
    let (user_code, client, name) = (escape(user_code), escape(client), escape(name));
    page(
        StatusCode::OK,
        "Allow access?",
        &format!(
            "<form method=\"post\" action=\"device\"><input type=\"hidden\" name=\"user_code\" value=\"{user_code}\">\
             <input type=\"hidden\" name=\"name\" value=\"{name}\">\
             <p>You are signed in as <b>{name}</b>. May <b>{client}</b> use this demo account?</p>\
             <button class=\"allow\" name=\"decision\" value=\"allow\" autofocus>Allow</button>\
             <button class=\"deny\" name=\"decision\" value=\"deny\">Deny</button></form>"
        ),
    )
}

/// The page that makes API keys.
pub(super) fn render_key_form_page() -> Response {
    let form =
        format!("<form method=\"post\" action=\"key\">{NAME_FIELD}<button class=\"next\">Make a key</button></form>");
    page(StatusCode::OK, "Make an API key", &form)
}

/// A page with a value to copy.
pub(super) fn render_value_page(title: &str, sentence: &str, value: &str) -> Response {
    page(StatusCode::OK, title, &format!("<p>{}</p><code id=\"value\">{}</code>", escape(sentence), escape(value)))
}

/// A page with one sentence.
pub(super) fn render_text_page(title: &str, sentence: &str) -> Response {
    page(StatusCode::OK, title, &format!("<p>{}</p>", escape(sentence)))
}

/// Any other path.
pub(super) async fn get_not_found_page() -> Response {
    render_error_page(StatusCode::NOT_FOUND, "There is no page at this address.")
}

/// The first page: asks for the user's name.
pub(super) fn render_sign_in_page(request: &str, client: &str, rejected: Option<&str>) -> Response {
    let (request, client, alert) = (escape(request), escape(client), alert(rejected));
    page(
        StatusCode::OK,
        "Sign in to the demo",
        &format!(
            "<form method=\"post\" action=\"authorize\"><input type=\"hidden\" name=\"request\" value=\"{request}\">{alert}\
             <p><b>{client}</b> asks who you are.</p>\
             <label for=\"name\">Your name (any will do)</label>\
             <input id=\"name\" name=\"name\" required maxlength=\"100\" autocomplete=\"off\" autofocus>\
             <button class=\"next\">Continue</button></form>"
        ),
    )
}

/// The second page: asks for consent.
pub(super) fn render_consent_page(request: &str, client: &str, name: &str) -> Response {
    let (request, client, name) = (escape(request), escape(client), escape(name));
    page(
        StatusCode::OK,
        "Allow access?",
        &format!(
            "<form method=\"post\" action=\"consent\"><input type=\"hidden\" name=\"request\" value=\"{request}\">\
             <p>You are signed in as <b>{name}</b>. May <b>{client}</b> use this demo account?</p>\
             <button class=\"allow\" name=\"decision\" value=\"allow\" autofocus>Allow</button>\
             <button class=\"deny\" name=\"decision\" value=\"deny\">Deny</button></form>"
        ),
    )
}

/// An error page.
pub(super) fn render_error_page(status: StatusCode, detail: &str) -> Response {
    page(status, "This sign-in cannot continue", &format!("<p>{}</p>", escape(detail)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn page_text_is_html_escaped() {
        assert_eq!(super::escape("<b a='\"'>&"), "&lt;b a=&#39;&quot;&#39;&gt;&amp;");
    }
}
