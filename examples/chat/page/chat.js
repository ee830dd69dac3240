// The browser's side of the chat. The messages are described at the top of app.py.

const LONGEST_LOG = 500; // entries kept on the page
const $ = (id) => document.getElementById(id);

let socket = null;
let wanted = null; // {room, name} while we mean to be in a room, else null
let me = null;
let attempts = 0; // failed or lost connections in a row
let retry = 0;
const people = new Map(); // id -> name

// ---- the connection

function connect() {
  clearTimeout(retry);
  const url = new URL("/chat", location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  const opened = (socket = new WebSocket(url));
  opened.onopen = () => send({ type: "join", ...wanted });
  opened.onmessage = (event) => {
    if (opened === socket) receive(JSON.parse(event.data));
  };
  opened.onclose = () => {
    if (opened === socket) lost();
  };
}

function lost() {
  socket = null;
  if (!wanted) return;
  attempts += 1;
  if (!me) return refuse("The server cannot be reached. Try again in a moment.");
  show("waiting", "Reconnecting …");
  // Twice as long each time, and not all browsers at once.
  const wait = Math.min(500 * 2 ** (attempts - 1), 15000) * (0.5 + Math.random() / 2);
  retry = setTimeout(connect, wait);
}

function send(message) {
  if (socket?.readyState !== WebSocket.OPEN) return false;
  socket.send(JSON.stringify(message));
  return true;
}

function receive(message) {
  const { person } = message;
  switch (message.type) {
    case "welcome":
      return welcome(message);
    case "came":
      people.set(person.id, person.name);
      listPeople();
      return note(person.name, "came in");
    case "left":
      people.delete(person.id);
      listPeople();
      return note(person.name, "left");
    case "said":
      return said(message);
    case "error":
      if (!me) return refuse(message.message);
      $("say-error").textContent = message.message;
  }
}

// ---- in and out of a room

$("join").onsubmit = (event) => {
  event.preventDefault();
  wanted = { room: $("room").value, name: $("name").value };
  $("join-error").textContent = "";
  $("enter").disabled = true;
  connect();
};

$("leave").onclick = () => {
  goOut();
  $("room").focus();
};

function refuse(why) {
  goOut();
  $("join-error").textContent = why;
}

function goOut() {
  wanted = me = null;
  attempts = 0;
  clearTimeout(retry);
  const open = socket;
  socket = null;
  open?.close(1000);
  people.clear();
  document.title = "Chat";
  $("log").replaceChildren();
  following = $("newest").hidden = true;
  $("enter").disabled = false;
  $("chat").hidden = true;
  $("entrance").hidden = false;
}

function welcome({ room, you, people: present }) {
  const again = me !== null;
  me = you;
  attempts = 0;
  wanted.room = room;
  people.clear();
  for (const { id, name } of present) people.set(id, name);
  listPeople();
  show("online", "Connected");
  $("say-error").textContent = "";
  if (again) return note("You", "are back");

  document.title = `#${room} – Chat`;
  history.replaceState(null, "", `#${encodeURIComponent(room)}`); // a link to this room
  sessionStorage.setItem("name", wanted.name); // of this tab: two tabs are two people
  $("room-name").textContent = room;
  $("entrance").hidden = true;
  $("chat").hidden = false;
  note("You", `are in #${room} as ${you.name}`);
  $("text").focus();
}

// ---- talking

$("say").onsubmit = (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text) return;
  if (!send({ type: "say", text })) {
    $("say-error").textContent = "Not connected: your message has not been sent.";
    return;
  }
  $("say-error").textContent = "";
  $("text").value = "";
  grow();
};

$("text").onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("say").requestSubmit();
};

$("text").oninput = grow;

function grow() {
  const { style } = $("text");
  style.height = "auto";
  style.height = `${$("text").scrollHeight + 2}px`;
}

// ---- what is shown. Text goes in as text, never as HTML.

function make(tag, className, text, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  element.append(...children);
  return element;
}

function show(state, text) {
  $("status").dataset.state = state;
  $("status").textContent = text;
  $("send").disabled = state !== "online";
}

function hue(name) {
  let hash = 0;
  for (const character of name) hash = (hash * 31 + character.codePointAt(0)) % 360;
  return hash;
}

function avatar(name) {
  const element = make("span", "avatar", [...name][0]);
  element.ariaHidden = "true";
  element.style.setProperty("--hue", hue(name));
  return element;
}

function listPeople() {
  const byName = [...people].sort(([, a], [, b]) => a.localeCompare(b, undefined, { numeric: true }));
  $("count").textContent = byName.length;
  $("people").replaceChildren(
    ...byName.map(([id, name]) => {
      const item = make("li", "", "", avatar(name), make("bdi", "", name));
      item.title = name;
      if (id === me.id) item.append(make("span", "you", "you"));
      return item;
    }),
  );
}

function note(name, what) {
  add(make("p", "note", "", make("bdi", "", name), ` ${what}`));
}

function said({ person, text, at }) {
  const log = $("log");
  const time = make("time", "", new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  time.dateTime = new Date(at).toISOString();
  const bubble = make("p", "bubble", text);
  bubble.dir = "auto";
  const mine = person.id === me.id;
  const by = make("p", "by", "", mine ? make("span", "unseen", "You") : make("bdi", "", person.name), time);
  const message = make("article", "message", "", avatar(person.name), by, bubble);
  message.style.setProperty("--hue", hue(person.name));
  message.dataset.by = person.id;
  message.classList.toggle("mine", mine);
  message.classList.toggle("more", log.lastElementChild?.dataset.by === person.id);
  if (mine) following = true;
  add(message);
  $("newest").hidden = following;
}

let following = true; // the newest is in sight, and stays there

function add(entry) {
  const log = $("log");
  log.append(entry);
  while (log.childElementCount > LONGEST_LOG) log.firstElementChild.remove();
  follow();
}

function follow() {
  if (following) $("log").scrollTop = $("log").scrollHeight;
}

$("log").onscroll = () => {
  const log = $("log");
  following = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
  if (following) $("newest").hidden = true;
};
// A long message being written, or a phone's keyboard, leaves less room.
new ResizeObserver(follow).observe($("log"));
$("newest").onclick = () => {
  following = true;
  follow();
  $("log").focus(); // the button goes, and with it the focus
};

// ---- what the fields begin with

function roomInLink() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return ""; // a hash that somebody mistyped
  }
}

// Another room's link in this tab: its entrance.
window.onhashchange = () => location.reload();

$("room").value = roomInLink() || "lobby";
$("name").value = sessionStorage.getItem("name") ?? "";
$("name").focus();
