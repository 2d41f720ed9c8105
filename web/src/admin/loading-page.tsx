// The operators' pages before it is known who is signed in. admin.html has the same content.

export function AdminLoadingPage() {
  return (
    <div class="admin">
      <main data-page="loading">
        <h1>Operators</h1>
        <p class="muted" role="status">
          Loading…
        </p>
      </main>
    </div>
  );
}
