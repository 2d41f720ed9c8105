// A moment, in the person's own words and zone.

export function When({ at }: { at: string }) {
  const date = new Date(at);
  const known = !Number.isNaN(date.getTime());
  return (
    <time class="when" dateTime={at}>
      {known ? date.toLocaleString([], { dateStyle: "medium", timeStyle: "short" }) : at}
    </time>
  );
}
