//! Reads lists of the API page by page.

use super::client::{ApiClient, ClientError};
use serde::de::DeserializeOwned;

impl ApiClient {
    /// Reads the pages of a list, the first one first, until there is no other or `enough` of them were read. `path` has a query.
    ///
    /// # Errors
    /// As [`ApiClient::call`].
    pub(crate) async fn get_pages<T: DeserializeOwned>(
        &self,
        path: &str,
        next_cursor: impl Fn(&T) -> Option<String>,
        mut enough: impl FnMut(&T) -> bool,
    ) -> Result<Vec<T>, ClientError> {
        let (mut pages, mut cursor) = (Vec::new(), String::new());
        loop {
            let page: T = self.get(&format!("{path}{cursor}")).await?;
            let next = next_cursor(&page).filter(|_| !enough(&page));
            pages.push(page);
            let Some(next) = next else { return Ok(pages) };
            cursor = format!("&cursor={next}");
        }
    }
}
