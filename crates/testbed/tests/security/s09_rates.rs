//! Callers and strangers that send too many requests.

use crate::{
    idle_session::Idle,
    raw_http::{RawConnection, head},
};

const FEW: &str =
    "[limits.rates.change]\nper_s = 1\nburst = 3\n[limits.rates.failed_identification]\nper_s = 1\nburst = 3\n";

#[tokio::test]
async fn s09_class_that_is_used_up_does_not_affect_other_classes_or_callers() {
    let idle = Idle::start(FEW).await;
    let heartbeat = format!("{}/heartbeat", idle.path());
    let mut refused = None;
    for _ in 0..20 {
        let answer = idle.api.post(&heartbeat, serde_json::json!({})).await.unwrap();
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
        assert_eq!(answer.status, 200);
    }
    let refused = refused.expect("the rate is limited").problem().unwrap();
    assert_eq!(refused.code, "too_many_requests");
    assert!(refused.detail.unwrap().contains("change"), "the limit is named");
    assert_eq!(idle.api.get(&idle.path()).await.unwrap().status, 200, "another class");
    let other = idle.server.operator_client().unwrap();
    assert_eq!(other.post(&heartbeat, serde_json::json!({})).await.unwrap().status, 200, "another caller");
    idle.finish().await;
}

#[tokio::test]
async fn s10_guessing_is_limited_by_address_and_does_not_shut_out_a_caller_with_a_valid_token() {
    let idle = Idle::start(FEW).await;
    // These tokens were valid before the guesses begin.
    assert_eq!(idle.api.get("/api/me").await.unwrap().status, 200);
    assert_eq!(idle.server.operator_client().unwrap().get("/api/me").await.unwrap().status, 200);
    for kind in ["Authorization: Bearer guess", "Cookie: anteroom=guess"] {
        let mut limited = false;
        for number in 0..20 {
            let request = head(&idle.server, "GET /api/me", &format!("{kind}{number}\r\n"));
            let (status, body) = RawConnection::send_new(&idle.server, request).await.read_response().await.unwrap();
            assert!(status == 401 || status == 429, "{status} {body}");
            limited |= status == 429 && body.contains("failed identification");
        }
        assert!(limited, "{kind}");
        assert_eq!(idle.api.get("/api/me").await.unwrap().status, 200, "a valid token works all the time");
    }
    idle.finish().await;
}

#[tokio::test]
async fn s10_address_of_a_trusted_proxys_client_is_limited_not_the_proxys() {
    let idle = Idle::start(&format!("trusted_proxies = ['127.0.0.1/32']\n{FEW}")).await;
    let guess = async |client: &str, number: usize| {
        let lines = format!("X-Forwarded-For: 203.0.113.77, {client}\r\nAuthorization: Bearer guess{number}\r\n");
        let request = head(&idle.server, "GET /api/me", &lines);
        RawConnection::send_new(&idle.server, request).await.read_response().await.unwrap().0
    };
    let mut statuses = Vec::new();
    for number in 0..20 {
        statuses.push(guess("192.0.2.1", number).await);
    }
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!(guess("192.0.2.2", 0).await, 401, "another client of the same proxy");
    idle.finish().await;
}
