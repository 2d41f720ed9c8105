// A date and time in the user's locale and time zone.

export function DateTime({ at }: { at: string }) {
  const date = new Date(at);
  const valid = !Number.isNaN(date.getTime());
  return (
    <time class="date-time" dateTime={at}>
      {valid ? date.toLocaleString([], { dateStyle: "medium", timeStyle: "short" }) : at}
    </time>
  );
}
