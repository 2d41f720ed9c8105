// /admin/webhook: what is delivered to the backend, what waits, and why.

import { adminApi } from "../api";
import { formatCount, words } from "../format";
import { Loading, Panel, SessionLink, Table, Time, useNow } from "../parts";
import { useData } from "../use-data";

const COLUMNS = ["Message", "About", "Created", "Next attempt", "Attempts", "Last error"] as const;

export function WebhookPage() {
  const { value: report, problem } = useData("webhook", () => adminApi.webhook(), 10_000);
  const now_ms = useNow();
  if (report === null) {
    return (
      <>
        <h1>Webhook</h1>
        <Loading problem={problem} what="the webhook" />
      </>
    );
  }
  return (
    <>
      <h1>Webhook</h1>
      {report.url === null || report.url === undefined ? (
        <p class="empty">
          No webhook is configured. <code>[webhook]</code> in the server's configuration sets its address.
        </p>
      ) : (
        <>
          <p>
            Messages go to <code>{report.url}</code>
            {report.include_credential ? ", with credentials that are delivered once" : ", without credentials"}. Since the server
            started: {formatCount(report.delivered)} delivered, {formatCount(report.failed)} failed attempts,{" "}
            {formatCount(report.abandoned)} abandoned.
          </p>
          {report.last_error === null || report.last_error === undefined ? null : (
            <p class="note warn">
              Last failure <Time at={report.last_error.at} now_ms={now_ms} />: {report.last_error.why}
            </p>
          )}
          <Panel title="Waiting" id="waiting">
            {report.pending.length === 0 ? (
              <p class="empty">No message waits.</p>
            ) : (
              <Table label="Waiting messages" columns={COLUMNS}>
                {report.pending.map((message) => (
                  <tr key={message.id}>
                    <td>{words(message.kind)}</td>
                    <td>{typeof message.session === "string" ? <SessionLink id={message.session} /> : (message.credential ?? "")}</td>
                    <td>
                      <Time at={message.created_at} now_ms={now_ms} />
                    </td>
                    <td>
                      <Time at={message.due_at} now_ms={now_ms} />
                    </td>
                    <td class="number">{message.attempts}</td>
                    <td class="wrap">{message.last_error ?? ""}</td>
                  </tr>
                ))}
              </Table>
            )}
          </Panel>
        </>
      )}
    </>
  );
}
