// The server's texts for people in German.

import type { ServerTexts } from "./server-texts";
import { unitFormat } from "./units";

const unit = unitFormat("de");

function duration(seconds: number): string {
  if (seconds >= 3_600 && seconds % 3_600 === 0) return unit(seconds / 3_600, "hour");
  if (seconds >= 120 || seconds === 60) return unit(Math.ceil(seconds / 60), "minute");
  return unit(seconds, "second");
}

function place(position: number, wait_s: number | null): string {
  const sentence = position <= 1 ? "Als Nächstes sind Sie an der Reihe." : `Sie haben Platz ${position} in der Warteschlange.`;
  if (wait_s === null) return sentence;
  return wait_s < 45 ? `${sentence} Weniger als eine Minute.` : `${sentence} Etwa ${duration(Math.ceil(wait_s / 60) * 60)}.`;
}

const TELL_OPERATORS = "Bitte wenden Sie sich an die Betreiber dieser Seite.";
const TELL_SENDERS = "Bitte wenden Sie sich an die Stelle, die Sie hierher geschickt hat.";
const FAILED = `Das hat nicht funktioniert. ${TELL_OPERATORS}`;
const GO_BACK = "Gehen Sie dorthin zurück, woher Sie gekommen sind, und beginnen Sie von vorn.";
const NOTHING_HERE = "Unter dieser Adresse gibt es nichts. Prüfen Sie, ob der ganze Link kopiert wurde.";
const NO_COMPUTER = "Im Augenblick ist kein Rechner frei. Bitte versuchen Sie es später noch einmal.";
const TOO_MANY_WINDOWS = "Dies ist in zu vielen Fenstern geöffnet. Schließen Sie eines, und versuchen Sie es dann noch einmal.";
const NO_EXTERNAL = `Der Rechner für diese Anmeldung ist nicht erreichbar. Bitte versuchen Sie es später noch einmal, oder wenden Sie sich an die Stelle, die Sie hierher geschickt hat.`;
const DELETED_WITH_COMPUTER =
  "{owner} bittet Sie, sich bei {tool} anzumelden. Ihre Anmeldung wird zusammen mit dem temporären Rechner gelöscht, auf dem sie stattfindet.";

const situations: ServerTexts["situations"] = {
  queued: { title: "Warten auf einen freien Rechner", sentence: "{place}" },
  preparing: { title: "Ein Rechner wird vorbereitet…", sentence: "Das dauert einige Sekunden." },
  replacing: {
    title: "Ein neuer Rechner wird vorbereitet…",
    sentence: "Der temporäre Rechner wurde beendet. Ein neuer wird vorbereitet; Sie melden sich dort noch einmal an.",
  },
  tool_starting: { title: "{tool} wird gestartet…", sentence: "" },
  your_turn: { title: "Sie sind dran", sentence: "{instruction}" },
  code_in_terminal: {
    title: "Der Code steht im Terminal",
    sentence: "{tool} zeigt den Code in seinem Terminal. Öffnen Sie das Terminal, und kopieren Sie den Code dort.",
  },
  checking: {
    title: "{tool} prüft…",
    sentence: "{tool} prüft, was Sie gesendet haben. Bitte lassen Sie diese Seite geöffnet.",
  },
  page_opening: { title: "Die Anmeldeseite wird geöffnet…", sentence: "Der Remote-Browser öffnet eine Seite von {host}." },
  page_unreachable: {
    title: "Die Anmeldeseite ist nicht erreichbar",
    sentence: "Der Remote-Browser kann {host} von hier nicht erreichen. Versuchen Sie es noch einmal, oder wenden Sie sich an {owner}.",
  },
  page_denied: {
    title: "Diese Seite ist hier nicht erlaubt",
    sentence: "Diese Seite braucht {host}. Das ist hier nicht erlaubt. Bitten Sie {owner}, es zu erlauben.",
  },
  page_not_opened: {
    title: "Die Anmeldeseite wurde nicht geöffnet",
    sentence: "Der Remote-Browser konnte keine Seite von {host} öffnen. Versuchen Sie es noch einmal, oder wenden Sie sich an {owner}.",
  },
  setting_needed: {
    title: "Es fehlt noch eine Angabe",
    sentence: "{tool} kann dieses Konto ohne sie nicht verwenden. Füllen Sie das Feld unten aus.",
  },
  data_used_up: {
    title: "Diese Anmeldung hat zu viele Daten verbraucht",
    sentence: "Sie hat alle Daten verbraucht, die sie übertragen darf. Bitte beginnen Sie von vorn.",
  },
  saving: { title: "Sie sind angemeldet. Die Anmeldung wird gespeichert…", sentence: "Bitte lassen Sie diese Seite noch einen Moment geöffnet." },
  saving_delayed: {
    title: "Sie sind angemeldet. Das Speichern dauert länger als sonst…",
    sentence: "Nichts ist verloren. Bitte lassen Sie diese Seite geöffnet.",
  },
  not_saved: {
    title: "Ihre Anmeldung konnte nicht gespeichert werden",
    sentence: "{tool} hat Ihre Anmeldung angenommen, aber sie konnte hier nicht gespeichert werden. Wenden Sie sich an {owner}.",
  },
  kept_in_machine: {
    title: "Sie sind angemeldet",
    sentence: "Ihre Anmeldung bleibt auf diesem temporären Rechner und wird mit ihm gelöscht. Wählen Sie „Beenden“, wenn Sie fertig sind.",
  },
  host_unreachable: {
    title: "{tool} hat keine Verbindung",
    sentence: "{tool} konnte {host} von hier nicht erreichen. Versuchen Sie es noch einmal, oder wenden Sie sich an {owner}.",
  },
  host_denied: {
    title: "{tool} konnte keine Verbindung herstellen",
    sentence: "{tool} braucht eine Adresse, die hier nicht erlaubt ist. Wenden Sie sich an {owner}.",
  },
  declined: {
    title: "Nicht erlaubt",
    sentence: "Sie haben den Zugriff nicht erlaubt. Versuchen Sie es noch einmal, wenn das ein Versehen war.",
  },
  account_refused: {
    title: "Mit diesem Konto nicht möglich",
    sentence: "{tool} lässt für dieses Konto diese Anmeldeart nicht zu. Vielleicht geht es mit einer anderen Anmeldeart oder einem anderen Konto.",
  },
  code_expired: {
    title: "Der Code gilt nicht mehr",
    sentence: "{tool} hat den Code nicht angenommen, oder seine Zeit ist um. Holen Sie sich einen neuen Code.",
  },
  sign_in_failed: {
    title: "Die Anmeldung hat nicht funktioniert",
    sentence: "{tool} hat die Anmeldung nicht angenommen. Versuchen Sie es noch einmal.",
  },
  tool_ended: { title: "Die Anmeldung wurde abgebrochen", sentence: "Die Anmeldung endete, bevor sie abgeschlossen war." },
  tool_missing: { title: "{tool} kann nicht starten", sentence: "{tool} ist hier nicht installiert. Wenden Sie sich an {owner}." },
  connected: { title: "Verbunden", sentence: "{tool} ist verbunden. Sie können diese Seite schließen." },
  cancelled: { title: "Beendet", sentence: "Sie können diese Seite schließen. Es wurde nichts gespeichert." },
  idle_expired: {
    title: "Geschlossen",
    sentence: "Geschlossen, weil die Sitzung {idle_time} lang nicht verwendet wurde. Es wurde nichts gespeichert.",
  },
  deadline_expired: { title: "Geschlossen", sentence: "Die Zeit ist um ({total_time}). Es wurde nichts gespeichert." },
  machines_failed: {
    title: "Das hat nicht funktioniert",
    sentence: "Der temporäre Rechner wurde {machines} beendet. Es wurde nichts gespeichert.",
  },
  failed: { title: "Das hat nicht funktioniert", sentence: "{reason} Es wurde nichts gespeichert." },
  use_running: { title: "{tool} läuft", sentence: "Sie müssen nichts tun." },
  use_ended: { title: "{tool} ist fertig", sentence: "Sie können diese Seite schließen." },
};

const problems: ServerTexts["problems"] = {
  malformed: "Hier ist etwas nicht vollständig. Wenn Sie einen Link geöffnet haben, prüfen Sie, ob er ganz kopiert wurde.",
  unauthenticated: `Sie sind hier nicht angemeldet. Öffnen Sie Ihren Link noch einmal. Oder: ${GO_BACK}`,
  ticket_used: `Dieser Link wurde schon verwendet oder ist abgelaufen. ${GO_BACK}`,
  not_owner: "Diese Anmeldung gehört einer anderen Person. Öffnen Sie sie in dem Browser, in dem sie begonnen wurde.",
  caller_revoked: `Ihr Zugang wurde beendet. ${GO_BACK}`,
  caller_expired: `Ihr Zugang ist abgelaufen. ${GO_BACK}`,
  helper_ended: "Ihr Zugang zum Mithelfen wurde beendet. Bitten Sie die Person, die Sie eingeladen hat, um einen anderen Link.",
  caller_tampered: `Ihr Zugang kann nicht mehr angenommen werden. ${TELL_SENDERS}`,
  unknown_token: FAILED,
  unknown_message: FAILED,
  not_a_browser: `Sie sind hier nicht angemeldet. Öffnen Sie Ihren Link noch einmal. Oder: ${GO_BACK}`,
  message_pending: FAILED,
  unknown_helper: "Diese Person hilft hier nicht mehr mit.",
  name_in_use: FAILED,
  missing_scope: `Das dürfen Sie hier nicht. ${TELL_OPERATORS}`,
  cross_origin: "Diese Seite wurde an einer unerwarteten Stelle geöffnet. Öffnen Sie Ihren Link noch einmal in einem neuen Fenster.",
  confirmation_required: "Bitte melden Sie sich noch einmal an, um das zu bestätigen.",
  oidc_not_configured: "Sie können sich hier nicht mit einem Konto anmelden. Öffnen Sie den Link, den Sie bekommen haben.",
  issuer_unavailable: "Die Seite, die Sie anmeldet, antwortet nicht. Bitte versuchen Sie es in einem Moment noch einmal.",
  sign_in_expired:
    "Diese Anmeldung wurde schon verwendet oder hat zu lange gedauert. Bitte melden Sie sich im selben Browser noch einmal an.",
  sign_in_denied: "Sie wurden nicht angemeldet: es wurde abgelehnt. Versuchen Sie es noch einmal, oder bitten Sie um Zugang.",
  issuer_error: `Die Seite, die Sie anmeldet, hat mit einem Fehler geantwortet. Versuchen Sie es noch einmal. Wenn das nicht hilft: ${TELL_OPERATORS}`,
  code_rejected: "Diese Anmeldung hat nicht funktioniert. Bitte melden Sie sich noch einmal an.",
  client_rejected: `Sie können im Augenblick nicht angemeldet werden. ${TELL_OPERATORS}`,
  id_token_invalid: `Diese Anmeldung hat nicht funktioniert. Melden Sie sich noch einmal an. Wenn das nicht hilft: ${TELL_OPERATORS}`,
  no_role: "Ihr Konto darf hier nicht verwendet werden. Bitten Sie die Betreiber dieser Seite um Zugang.",
  confirmation_not_fresh: "Bitte bestätigen Sie noch einmal, und geben Sie diesmal Ihr Passwort ein.",
  other_person: "Eine andere Person als die angemeldete hat bestätigt. Bitte bestätigen Sie mit Ihrem eigenen Konto.",
  role_changed: "Ihr Zugang hat sich geändert. Bitte melden Sie sich noch einmal an.",
  proxy_without_upgrade: `Dieser Teil der Seite kann nicht gezeigt werden: etwas auf dem Weg zu Ihnen lässt ihn nicht durch. ${TELL_OPERATORS}`,
  proxy_buffers: "Änderungen kommen einige Sekunden später an: etwas auf dem Weg zu Ihnen hält sie zurück.",
  proxy_body_limit: `Das war zu groß für etwas auf dem Weg. ${TELL_OPERATORS}`,
  link_without_fragment: "Der letzte Teil Ihres Links ging auf dem Weg hierher verloren. Öffnen Sie den Link noch einmal, oder fügen Sie ihn unten ein.",
  wrong_host: "Diese Seite gibt es unter dieser Adresse nicht. Öffnen Sie den Link, den Sie bekommen haben.",
  wrong_agent_token: FAILED,
  egress_denied: FAILED,
  egress_private: FAILED,
  egress_unreachable: "Die Seite ist von hier nicht erreichbar. Bitte versuchen Sie es später noch einmal.",
  egress_timeout: "Die Seite hat nicht rechtzeitig geantwortet. Bitte versuchen Sie es noch einmal.",
  egress_proxy: `Die Seite ist von hier nicht erreichbar. ${TELL_OPERATORS}`,
  egress_certificate_dates: `Der Verbindung zur Seite kann nicht vertraut werden. ${TELL_OPERATORS}`,
  egress_unknown_authority: `Der Verbindung zur Seite kann nicht vertraut werden. ${TELL_OPERATORS}`,
  egress_tls_name: FAILED,
  egress_limit: "Diese Anmeldung hat alle Daten verbraucht, die sie übertragen darf. Bitte beginnen Sie von vorn.",
  path_not_found: NOTHING_HERE,
  method_not_allowed: NOTHING_HERE,
  not_acceptable: FAILED,
  unknown_session: `Hier gibt es nichts mehr. ${GO_BACK}`,
  unknown_credential: "Diese gespeicherte Anmeldung gibt es nicht mehr.",
  unknown_provider: "Dieses Tool wird hier nicht angeboten. Wählen Sie ein anderes.",
  provider_unavailable: `Dieses Tool ist hier nicht installiert. Wählen Sie ein anderes. Wenn Sie es brauchen: ${TELL_OPERATORS}`,
  idle_timeout: "Die Verbindung wurde zu lange nicht verwendet. Bitte verbinden Sie sich neu.",
  not_ready: "Das ist noch nicht bereit. Bitte versuchen Sie es in einem Moment noch einmal.",
  no_sign_in_url: "Die Anmeldeseite ist noch nicht bekannt. Bitte warten Sie einen Moment.",
  no_prompt: "Das Tool fragt im Augenblick nach nichts, deshalb wurde nichts gesendet.",
  wrong_answer:
    "Danach fragt das Tool nicht, deshalb wurde nichts gesendet. Vergleichen Sie es mit dem Hinweis am Feld; ein Code kann mehrere Zeilen haben.",
  wrong_callback: "Diese Adresse gehört zu einer anderen Anmeldung. Kopieren Sie die Adresse, die Ihr Browser am Ende dieser Anmeldung zeigt.",
  callback_expected:
    "Fügen Sie die ganze Adresse der Seite ein, auf der Ihr Browser geendet ist. Sie enthält localhost oder 127.0.0.1.",
  sign_in_page_pasted:
    "Das ist die Adresse der Anmeldeseite. Melden Sie sich zuerst dort an, und fügen Sie dann den Code oder die Adresse ein, mit der sie endet.",
  callback_failed: "Das Tool hat die Adresse nicht angenommen. Bitte beginnen Sie die Anmeldung von vorn.",
  unknown_method: "Dieses Tool hat diese Anmeldeart nicht. Wählen Sie eine andere.",
  consent_required: "Bitte stimmen Sie dieser Anmeldung zuerst zu.",
  forbidden_by_policy: "Das ist für dieses Tool nicht erlaubt.",
  already_delivered: "Diese Anmeldung wurde einmal übergeben und wird hier nicht aufbewahrt. Bitte melden Sie sich noch einmal an.",
  no_such_command: "Das kann dieses Tool nicht.",
  peer_not_permitted: FAILED,
  idempotency_key_reused: "Das wurde schon in anderer Form angefordert. Bitte laden Sie diese Seite neu, und versuchen Sie es noch einmal.",
  too_large: "Dieser Text ist zu lang.",
  unsupported_media_type: FAILED,
  invalid_credential_format: `Ihre Anmeldung konnte nicht gespeichert werden. ${TELL_SENDERS}`,
  too_many_viewers: TOO_MANY_WINDOWS,
  viewer_replaced: "Dies wurde in einem anderen Fenster geöffnet, das dieses hier ersetzt.",
  too_many_helpers: "Es helfen schon so viele Personen mit, wie es dürfen. Beenden Sie zuerst den Zugang von einer.",
  too_many_requests: "Das war etwas zu schnell. Bitte warten Sie einen Moment, und versuchen Sie es noch einmal.",
  too_many_streams: TOO_MANY_WINDOWS,
  request_timeout: "Ihre Verbindung ist langsam. Bitte versuchen Sie es noch einmal.",
  too_many_connections: "Im Augenblick sind zu viele Personen hier. Bitte versuchen Sie es in einem Moment noch einmal.",
  internal: `Hier ist ein Fehler aufgetreten. Versuchen Sie es noch einmal. Wenn das nicht hilft: ${TELL_OPERATORS}`,
  record_tampered: "Diese gespeicherte Anmeldung kann nicht mehr verwendet werden. Bitte melden Sie sich noch einmal an.",
  desktop_unreachable: "Der Remote-Browser antwortet im Augenblick nicht. Er verbindet sich von selbst neu.",
  agent_unreachable: "Der temporäre Rechner antwortet im Augenblick nicht. Bitte versuchen Sie es in einigen Sekunden noch einmal.",
  database_unavailable: "Das ist im Augenblick nicht möglich. Bitte versuchen Sie es in einem Moment noch einmal.",
  audit_unavailable: "Das ist im Augenblick nicht möglich. Bitte versuchen Sie es später noch einmal.",
  no_capacity: NO_COMPUTER,
  caller_quota: "Im Augenblick warten zu viele Anmeldungen. Bitte versuchen Sie es später noch einmal.",
  user_quota: "Sie haben zu viele Anmeldungen begonnen. Schließen Sie eine ab oder beenden Sie eine, und versuchen Sie es dann noch einmal.",
  memory_low: NO_COMPUTER,
  disk_low: NO_COMPUTER,
  cluster_contact_lost: "Die Verbindung war für einen Moment unterbrochen. Bitte warten Sie: es geht von selbst weiter.",
  host_unreachable: "Der Rechner, auf dem dies läuft, antwortet im Moment nicht. Diese Seite macht von selbst weiter: Bitte warten Sie.",
  owner_moved: "Das ist noch nicht bereit. Bitte versuchen Sie es in einem Moment noch einmal.",
  unknown_host: "Das hat nicht funktioniert. Bitte wenden Sie sich an die Betreiber dieser Seite.",
  host_in_use: "Das hat nicht funktioniert. Bitte wenden Sie sich an die Betreiber dieser Seite.",
  not_clustered: "Das hat nicht funktioniert. Bitte wenden Sie sich an die Betreiber dieser Seite.",
  shutting_down: "Diese Seite wird gerade neu gestartet. Bitte versuchen Sie es in einem Moment noch einmal.",
  machine_replaced: "Der temporäre Rechner wurde beendet. Ein neuer ist bereit: bitte melden Sie sich noch einmal an.",
  no_restart_left: "Für diese Anmeldung kann kein weiterer Rechner gestartet werden. Machen Sie hier weiter, oder beginnen Sie von vorn.",
  delivery_in_progress: "Ihre Anmeldung wird gespeichert. Bitte warten Sie einen Moment.",
  external_certificate: NO_EXTERNAL,
  external_closed: NO_EXTERNAL,
  external_desktop_only: "Das ist auf diesem Rechner nicht möglich. Verwenden Sie stattdessen seinen Bildschirm.",
  external_no_route: NO_EXTERNAL,
  external_no_tls: NO_EXTERNAL,
  external_refused: NO_EXTERNAL,
  external_silent: NO_EXTERNAL,
  external_timeout: NO_EXTERNAL,
  external_wrong_protocol: NO_EXTERNAL,
  external_security_unsupported: `Der Bildschirm des Rechners für diese Anmeldung kann hier nicht gezeigt werden. ${TELL_SENDERS}`,
  external_password_rejected: `Der Rechner für diese Anmeldung lässt uns nicht ein. ${TELL_SENDERS}`,
  external_rejected:
    "Der Rechner für diese Anmeldung lässt uns im Augenblick nicht ein. Bitte versuchen Sie es später noch einmal, oder wenden Sie sich an die Stelle, die Sie hierher geschickt hat.",
  viewer_handshake: "Dieses Programm kann den Bildschirm nicht zeigen. Bitte öffnen Sie Ihren Link in einem Browser.",
  key_in_use: FAILED,
  keys_read_only: FAILED,
  keys_unavailable: FAILED,
  machine_in_use: "Dieser Rechner ist in Gebrauch. Bitte versuchen Sie es später noch einmal.",
  credential_in_use: "Diese gespeicherte Anmeldung ist in Gebrauch. Bitte versuchen Sie es später noch einmal.",
  no_commands: FAILED,
  other_user: "Diese gespeicherte Anmeldung gehört einer anderen Person. Gehen Sie dorthin zurück, woher Sie kamen, und beginnen Sie von vorn.",
  other_account: "Sie haben sich mit einem anderen Konto angemeldet als zuvor. Beginnen Sie von vorn, und verwenden Sie das frühere Konto.",
  unknown_key: FAILED,
  unknown_machine: `Dieser Rechner ist hier nicht bekannt. ${TELL_SENDERS}`,
};

const ends: ServerTexts["ends"] = {
  completed: "Es ist fertig. Sie können diese Seite schließen.",
  use_completed: "Es ist fertig. Sie können diese Seite schließen.",
  cancelled: "Es wurde beendet. Sie können diese Seite schließen.",
  idle_expired: "Geschlossen, weil die Sitzung zu lange nicht verwendet wurde. Bitte beginnen Sie von vorn.",
  deadline_expired: "Die Zeit ist um. Bitte beginnen Sie von vorn.",
  machine_failed: "Der temporäre Rechner wurde zu oft beendet. Bitte beginnen Sie von vorn.",
  machine_compromised: `Der temporäre Rechner wurde zu Ihrer Sicherheit beendet. Fragen Sie die Stelle, die Sie hierher geschickt hat, bevor Sie von vorn beginnen.`,
  ready_timeout: "Der temporäre Rechner ist nicht rechtzeitig gestartet. Bitte beginnen Sie von vorn.",
  agent_mismatch: `Der temporäre Rechner konnte nicht verwendet werden. ${TELL_SENDERS}`,
  controller_restarted: "Der temporäre Rechner ging bei einem Neustart verloren. Bitte beginnen Sie von vorn.",
  no_capacity: "Kein Rechner ist frei. Bitte versuchen Sie es später noch einmal.",
  no_image: `Es konnte kein Rechner gestartet werden. ${TELL_SENDERS}`,
  provider_removed: "Dieses Tool wird hier nicht mehr angeboten. Wählen Sie ein anderes.",
  credential_deleted: "Die gespeicherte Anmeldung wurde entfernt. Bitte melden Sie sich noch einmal an.",
  credential_in_use: "Diese gespeicherte Anmeldung ist anderswo in Gebrauch. Bitte versuchen Sie es später noch einmal.",
  other_account: "Sie haben sich mit einem anderen Konto angemeldet als zuvor. Beginnen Sie von vorn, und verwenden Sie das frühere Konto.",
  session_tampered: `Die Sitzung wurde zu Ihrer Sicherheit beendet. Bitte beginnen Sie von vorn, und wenden Sie sich an die Betreiber dieser Seite.`,
  internal: "Hier ist ein Fehler aufgetreten. Bitte beginnen Sie von vorn.",
};

const verdicts: ServerTexts["verdicts"] = {
  waiting_for_user: "{tool} wartet darauf, dass Sie die Anmeldung abschließen.",
  command_running: "{tool} läuft.",
  waiting_for_capacity: "Es war noch kein Rechner frei.",
  machine_starting: "Der temporäre Rechner wird gestartet.",
  machine_being_replaced: "Der temporäre Rechner wurde beendet, und ein neuer wird vorbereitet.",
  delivering: "Ihre Anmeldung wird gespeichert.",
  resuming: "Es geht gleich weiter.",
  agent_unreachable: "Der temporäre Rechner hat nicht geantwortet.",
  desktop_unreachable: "Der Remote-Browser hat nicht geantwortet.",
  proxy_without_upgrade: "Etwas auf dem Weg zu dieser Seite lässt das Bild nicht durch.",
  proxy_fault: "Etwas auf dem Weg zu dieser Seite lässt nicht alles durch.",
  external_no_route: "Der Rechner für diese Anmeldung ist von hier nicht erreichbar.",
  external_refused: "Der Rechner für diese Anmeldung nimmt keine Verbindungen an.",
  external_timeout: "Der Rechner für diese Anmeldung hat nicht rechtzeitig geantwortet.",
  external_silent: "Der Rechner für diese Anmeldung sendet kein Bild.",
  external_closed: "Der Rechner für diese Anmeldung hat die Verbindung beendet.",
  external_certificate: "Der Verbindung zu dem Rechner für diese Anmeldung konnte nicht vertraut werden.",
  external_no_tls: "Die Verbindung zu dem Rechner für diese Anmeldung ist nicht so verschlüsselt, wie sie sein muss.",
  external_wrong_protocol: "Der Rechner für diese Anmeldung bietet kein Bild an, das hier gezeigt werden kann.",
  external_security_unsupported: "Der Bildschirm des Rechners für diese Anmeldung kann hier nicht gezeigt werden.",
  external_password_rejected: "Der Rechner für diese Anmeldung hat uns nicht eingelassen.",
  external_rejected: "Der Rechner für diese Anmeldung hat die Verbindung abgelehnt.",
  external_removed: "Der Rechner für diese Anmeldung wird hier nicht mehr angeboten.",
  cli_not_started: "{tool} konnte nicht gestartet werden.",
  sign_in_declined: "Der Zugriff wurde nicht erlaubt, deshalb sind Sie nicht angemeldet.",
  code_expired: "Der Code ist nicht mehr gültig.",
  account_refused: "{tool} funktioniert mit diesem Konto nicht.",
  certificate_not_valid_now: "Die Uhr hier geht falsch, oder eine Seite von {tool} ist abgelaufen.",
  guest_disk_full: "Auf dem temporären Rechner war kein Platz mehr.",
  cli_failed: "{tool} wurde mit einem Fehler beendet.",
  cli_exited_without_credential: "{tool} wurde geschlossen, bevor Sie angemeldet waren.",
  egress_denied: "{tool} brauchte eine Adresse, die hier nicht erlaubt ist.",
  egress_proxy: "Der Weg von hier ins Internet hat {tool} nicht durchgelassen.",
  unknown_authority: "Der Verbindung von {tool} ins Internet konnte hier nicht vertraut werden.",
  egress_unreachable: "{tool} konnte das Internet von hier nicht erreichen.",
  credential_invalid_format: "{tool} hat Ihre Anmeldung in einer Form gespeichert, die hier nicht bekannt ist.",
  credential_not_found: "{tool} ist fertig, aber Ihre Anmeldung wurde nicht dort gefunden, wo sie erwartet wird.",
  credential_not_confirmed: "{tool} hat nicht bestätigt, dass Sie angemeldet sind.",
  guest_out_of_memory: "Der temporäre Rechner hatte zu wenig Speicher für alles, was geöffnet war.",
  guest_crash_loop: "Ein Programm auf dem temporären Rechner ist immer wieder abgestürzt.",
  guest_memory_low: "Der temporäre Rechner hat nur noch wenig Speicher: schließen Sie in seinem Browser, was Sie nicht brauchen.",
  delivery_failing: "Ihre Anmeldung konnte noch nicht gespeichert werden.",
  machine_exited: "Der temporäre Rechner wurde unerwartet beendet.",
  machine_killed: "Der temporäre Rechner wurde von außen abgeschaltet.",
  machine_file_unreadable: "Ein Datenträger dieser Seite ist voll oder beschädigt.",
  out_of_memory: "Für den temporären Rechner war zu wenig Speicher da.",
  machine_deadline: "Der temporäre Rechner lief so lange, wie er darf.",
  renew_deadline: "Was den temporären Rechner ausführt, war von den anderen abgeschnitten. Er wurde deshalb beendet.",
  guest_power_off: "Der temporäre Rechner wurde von innen abgeschaltet.",
  guest_panic: "Der temporäre Rechner ist abgestürzt.",
  vmm_error: "Der temporäre Rechner konnte wegen eines Fehlers hier nicht weiterlaufen.",
  forbidden_system_call: "Etwas auf dem temporären Rechner hat versucht, was dort nicht erlaubt ist. Er wurde deshalb zu Ihrer Sicherheit beendet.",
  machine_unresponsive: "Der temporäre Rechner hat nicht mehr reagiert.",
  channel_violation: "Der temporäre Rechner hat gesendet, was er nie senden darf. Er wurde deshalb zu Ihrer Sicherheit beendet.",
  keeper_lost: "Was den temporären Rechner betreibt, wurde abgeschaltet.",
  machine_start_failed: "Der temporäre Rechner konnte nicht gestartet werden.",
  machine_stopped: "Der temporäre Rechner wurde von hier beendet.",
  machine_end_unknown: "Es ist nicht bekannt, warum der temporäre Rechner beendet wurde.",
  ready_timeout: "Der temporäre Rechner ist nicht rechtzeitig gestartet.",
  image_mismatch: "Der temporäre Rechner hat eine andere Version, als hier gebraucht wird.",
  claim_failed: "Der temporäre Rechner wurde gestartet, konnte aber nicht für Sie vorbereitet werden.",
  no_image: "Hier gibt es keinen Rechner, der gestartet werden könnte.",
  no_capacity: "Es war kein Rechner frei.",
  completed: "Sie sind angemeldet.",
  cancelled: "Es wurde beendet, bevor Sie angemeldet waren.",
  idle_expired: "Es wurde zu lange nicht verwendet.",
  deadline_expired: "Die Zeit war um.",
  server_restarted: "Der temporäre Rechner ging bei einem Neustart verloren.",
  provider_removed: "{tool} wird hier nicht mehr angeboten.",
  credential_deleted: "Die gespeicherte Anmeldung wurde entfernt.",
  credential_in_use: "Die gespeicherte Anmeldung ist anderswo in Gebrauch.",
  other_account: "Es wurde ein anderes Konto angemeldet als zuvor.",
  internal_error: "Hier ist ein Fehler aufgetreten.",
  unknown: "Es ist nicht bekannt, was geschehen ist.",
};

const BY_CODE = "Kopieren Sie den Code, öffnen Sie die Anmeldeseite von";
const NOTICES = "und geben Sie den Code dort ein. Diese Seite bemerkt es von selbst.";
const REMOTE_OR_OWN = "im Remote-Browser an, oder in Ihrem eigenen Browser, und fügen Sie dann die Adresse ein, bei der er geendet ist.";
const REGION = "Wählen Sie im Terminal mit den Pfeiltasten und der Eingabetaste die Region Ihres Kontos";

const descriptors: ServerTexts["descriptors"] = {
  "API key": "API-Schlüssel",
  "API key of the Coding Plan": "API-Schlüssel des Coding Plan",
  "API key of the demo": "API-Schlüssel der Demo",
  "It begins with demo_code_ and has 74 characters; it can take two lines.": "Er beginnt mit demo_code_ und hat 74 Zeichen; er kann zwei Zeilen haben.",
  "It begins with demo_key_ and has 73 characters; it can take two lines.": "Er beginnt mit demo_key_ und hat 73 Zeichen; er kann zwei Zeilen haben.",
  "It has 4 to 30 small letters, digits and hyphens.": "Es hat 4 bis 30 kleine Buchstaben, Ziffern und Bindestriche.",
  "Open the link in your own browser, sign in under any name, and paste the code that the last page shows.":
    "Öffnen Sie den Link in Ihrem eigenen Browser, melden Sie sich unter einem beliebigen Namen an, und fügen Sie den Code ein, den die letzte Seite zeigt.",
  "Open the page in your own browser and enter the code there, under any name.":
    "Öffnen Sie die Seite in Ihrem eigenen Browser, und geben Sie dort den Code unter einem beliebigen Namen ein.",
  "Make an API key on the page /demo/key of this address, and paste it here.":
    "Erstellen Sie einen API-Schlüssel auf der Seite /demo/key dieser Adresse, und fügen Sie ihn hier ein.",
  "The project of your workspace account": "Das Projekt Ihres Workspace-Kontos",
  "With a link, in your own browser": "Mit einem Link, in Ihrem eigenen Browser",
  "Choose your account's region in the terminal with the arrow keys and Enter, then paste a ModelStudio API key.": `${REGION}, und fügen Sie dann einen API-Schlüssel von ModelStudio ein.`,
  "Choose your account's region in the terminal with the arrow keys and Enter, then paste the key of your Coding Plan.": `${REGION}, und fügen Sie dann den Schlüssel Ihres Coding Plan ein.`,
  "Copy the code, open the sign-in page of GitHub and enter the code there. This page notices by itself.": `${BY_CODE} GitHub, ${NOTICES}`,
  "Copy the code, open the sign-in page of OpenAI and enter the code there. This page notices by itself.": `${BY_CODE} OpenAI, ${NOTICES}`,
  "Create an API key at https://opencode.ai/auth and paste it.": "Erstellen Sie auf https://opencode.ai/auth einen API-Schlüssel, und fügen Sie ihn ein.",
  "GitHub access token": "GitHub-Zugriffstoken",
  "Google may refuse to sign you in here and say that this browser may not be secure. Then use your own browser.":
    "Google kann die Anmeldung hier ablehnen und sagen, dass dieser Browser möglicherweise nicht sicher ist. Verwenden Sie dann Ihren eigenen Browser.",
  "If OpenAI says that device codes are off: you can switch them on in ChatGPT under Settings, Security; in a workspace, its owner can. Or sign in another way.":
    "Falls OpenAI sagt, dass Gerätecodes ausgeschaltet sind: Sie können sie in ChatGPT unter Einstellungen, Sicherheit einschalten; in einem Workspace kann es dessen Verwaltung. Oder melden Sie sich auf andere Art an.",
  "In the remote browser": "Im Remote-Browser",
  "It begins with 4/ and has no spaces.": "Er beginnt mit 4/ und hat keine Leerzeichen.",
  "It begins with ghp_ or github_pat_.": "Es beginnt mit ghp_ oder github_pat_.",
  "It begins with github_pat_; classic tokens (ghp_) are not taken.": "Es beginnt mit github_pat_; klassische Token (ghp_) werden nicht angenommen.",
  "It begins with sk-.": "Er beginnt mit sk-.",
  "It begins with sk-sp-.": "Er beginnt mit sk-sp-.",
  "Google Cloud project": "Google-Cloud-Projekt",
  "It is the id of a project, for example my-project-123, not its number or its name.":
    "Es ist die ID eines Projekts, zum Beispiel my-project-123, nicht seine Nummer und nicht sein Name.",
  "It has two halves with a # between them; copy all of it.": "Er hat zwei Hälften mit einem # dazwischen; kopieren Sie alles.",
  "It is one word without spaces.": "Es ist ein Wort ohne Leerzeichen.",
  "ModelStudio API key": "API-Schlüssel von ModelStudio",
  "OpenAI API key": "API-Schlüssel von OpenAI",
  "Paste a fine-grained access token of your GitHub account that has the permission Copilot Requests.":
    "Fügen Sie ein feingranulares Zugriffstoken Ihres GitHub-Kontos ein, das die Berechtigung „Copilot Requests“ hat.",
  "Paste an API key of your Anthropic account.": "Fügen Sie einen API-Schlüssel Ihres Anthropic-Kontos ein.",
  "Paste an API key of your OpenAI account.": "Fügen Sie einen API-Schlüssel Ihres OpenAI-Kontos ein.",
  "Paste an API key of your OpenRouter account.": "Fügen Sie einen API-Schlüssel Ihres OpenRouter-Kontos ein.",
  "Paste an access token of your GitHub account with the scopes repo, read:org and gist.":
    "Fügen Sie ein Zugriffstoken Ihres GitHub-Kontos mit den Bereichen repo, read:org und gist ein.",
  "Sign in to Claude, then paste the code that the last page shows.":
    "Melden Sie sich bei Claude an, und fügen Sie dann den Code ein, den die letzte Seite zeigt.",
  "Sign in to GitHub in the remote browser, or in your own browser and then paste the address at which it ended.": `Melden Sie sich bei GitHub ${REMOTE_OR_OWN}`,
  "Sign in to Google in the remote browser, or in your own browser and then paste the address at which it ended.": `Melden Sie sich bei Google ${REMOTE_OR_OWN}`,
  "Sign in to Google, then paste the code that the last page shows.":
    "Melden Sie sich bei Google an, und fügen Sie dann den Code ein, den die letzte Seite zeigt.",
  "Sign in to OpenAI in the remote browser, or in your own browser and then paste the address at which it ended.": `Melden Sie sich bei OpenAI ${REMOTE_OR_OWN}`,
  "Sign in under any name in the remote browser, then allow access. No account is needed.":
    "Melden Sie sich im Remote-Browser unter einem beliebigen Namen an, und erlauben Sie dann den Zugriff. Ein Konto ist nicht nötig.",
  "The code that the last page shows": "Der Code, den die letzte Seite zeigt",
  "With GitHub Copilot, by a code": "Mit GitHub Copilot, über einen Code",
  "With a ChatGPT subscription, by a code": "Mit einem ChatGPT-Abonnement, über einen Code",
  "With a Claude subscription": "Mit einem Claude-Abonnement",
  "With a ModelStudio API key": "Mit einem API-Schlüssel von ModelStudio",
  "With a code, in your own browser": "Mit einem Code, in Ihrem eigenen Browser",
  "With a key of OpenCode Zen": "Mit einem Schlüssel von OpenCode Zen",
  "With a key of the Coding Plan": "Mit einem Schlüssel des Coding Plan",
  "With an API key": "Mit einem API-Schlüssel",
  "With an Anthropic API key": "Mit einem API-Schlüssel von Anthropic",
  "With an OpenRouter API key": "Mit einem API-Schlüssel von OpenRouter",
  "With an access token": "Mit einem Zugriffstoken",
};

export const SERVER_TEXTS: ServerTexts = {
  situations,
  problems,
  ends,
  verdicts,
  owner: "die Verwaltung dieser Seite",
  link_used: "Dieser Link wurde schon verwendet oder ist abgelaufen. Gehen Sie zu {owner} zurück, und beginnen Sie von vorn.",
  descriptors,
  policies: {
    store: "Ihre Anmeldung wird verschlüsselt für {owner} aufbewahrt, bis sie von Ihnen oder von dort entfernt wird.",
    deliver_once: "Ihre Anmeldung wird an {owner} übergeben und hier nicht aufbewahrt.",
    keep_in_machine: "Ihre Anmeldung bleibt auf diesem temporären Rechner und wird mit ihm gelöscht.",
    forbidden: "Die Anmeldung bei diesem Tool ist hier nicht erlaubt.",
  },
  requests: {
    store:
      "{owner} bittet Sie, sich bei {tool} anzumelden. {owner} bewahrt Ihre Anmeldung verschlüsselt auf und kann {tool} in Ihrem Namen verwenden, bis eine der beiden Seiten sie entfernt.",
    deliver_once:
      "{owner} bittet Sie, sich bei {tool} anzumelden. Ihre Anmeldung wird an {owner} übergeben; {owner} kann {tool} dann in Ihrem Namen verwenden.",
    keep_in_machine: DELETED_WITH_COMPUTER,
    forbidden: DELETED_WITH_COMPUTER,
  },
  request_return: " Danach kehren Sie zu {host} zurück.",
  unexpected_address:
    "Der temporäre Rechner will {host} öffnen. Das ist keine Seite von {tool}. Geben Sie dort weder ein Passwort noch einen Code ein.",
  place,
  times: (count) => ["einmal", "einmal", "zweimal", "dreimal"][count] ?? `${count}-mal`,
  duration,
};
