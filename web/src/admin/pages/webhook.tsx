// /admin/webhook: which deliveries to the backend failed and why, and what waits.

import type { ComponentChildren } from "preact";
import { adminApi, type WebhookReport } from "../api";
import { formatCount, words } from "../format";
import { Loading, Panel, SessionLink, Table, Time, useNow } from "../parts";
import { useData } from "../use-data";

type Pending = WebhookReport["pending"][number];
type Abandoned = WebhookReport["abandoned_messages"][number];

export function WebhookPage() {
  const { value: report, problem } = useData("webhook", () => adminApi.webhook(), { every_ms: 10_000, with_sessions: true });
  return (
    <>
      <h1>Webhook</h1>
      {report === null ? (
        <Loading problem={problem} what="the webhook" />
      ) : report.receivers.length === 0 ? (
        <p class="empty">
          No webhook is configured. <code>[webhook]</code> in the server's configuration sets its address.
        </p>
      ) : (
        <Report report={report} />
      )}
    </>
  );
}

function Report({ report }: { report: WebhookReport }) {
  const now_ms = useNow();
  const failing = report.pending.filter(({ attempts }) => attempts > 0);
  const waiting = report.pending.filter(({ attempts }) => attempts === 0);
  const { last_error } = report;
  return (
    <>
      {report.receivers.map((receiver) => (
        <p key={receiver.name} data-receiver={receiver.name}>
          {report.receivers.length === 1 ? "Messages" : `Messages for ${receiver.name}`} go to <code>{receiver.url}</code>
          {receiver.include_credential ? ", with credentials that are delivered once" : ", without credentials"}
          {receiver.types.length === 0 ? "" : `, of the types ${receiver.types.join(", ")}`}. Since the server started: {formatCount(receiver.delivered)} delivered,{" "}
          {formatCount(receiver.failed)} failed attempts, {formatCount(receiver.abandoned)} abandoned.
        </p>
      ))}
      {last_error === null || last_error === undefined ? null : (
        <p class="note warn">
          Last failure <Time at={last_error.at} now_ms={now_ms} />: {last_error.why}
        </p>
      )}
      <Messages id="failing" title="Failing, tried again" empty="No delivery fails." last="Next attempt" messages={failing} now_ms={now_ms} />
      <Messages
        id="abandoned"
        title="Abandoned in the last 7 days"
        empty="No message was abandoned."
        last="Abandoned"
        messages={report.abandoned_messages}
        now_ms={now_ms}
      />
      <Messages id="waiting" title="Waiting" empty="No other message waits." last="Next attempt" messages={waiting} now_ms={now_ms} />
    </>
  );
}

interface MessagesProps {
  id: string;
  title: string;
  empty: string;
  /** The heading of the time of the next attempt, or of the last one. */
  last: string;
  messages: readonly (Pending | Abandoned)[];
  now_ms: number;
}

function Messages({ id, title, empty, last, messages, now_ms }: MessagesProps) {
  const row = (message: Pending | Abandoned): ComponentChildren => (
    <tr key={message.id} data-message={message.kind} data-about={message.session ?? message.credential ?? undefined}>
      <td>{words(message.kind)}</td>
      <td>{typeof message.session === "string" ? <SessionLink id={message.session} /> : (message.credential ?? "")}</td>
      <td>
        <Time at={message.created_at} now_ms={now_ms} />
      </td>
      <td>
        <Time at={"due_at" in message ? message.due_at : message.abandoned_at} now_ms={now_ms} />
      </td>
      <td class="number">{message.attempts}</td>
      <td class="wrap">{message.last_error ?? ""}</td>
    </tr>
  );
  return (
    <Panel title={title} id={id} aside={<span class="muted">{formatCount(messages.length)}</span>}>
      {messages.length === 0 ? (
        <p class="empty">{empty}</p>
      ) : (
        <Table label={title} columns={["Message", "About", "Created", last, "Attempts", "Last error"]}>
          {messages.map(row)}
        </Table>
      )}
    </Panel>
  );
}
