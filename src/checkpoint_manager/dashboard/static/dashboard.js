// What a page gains with JavaScript: it logs in by its link, filters while one types, and follows what changes.
// A page works without it. Nothing is stored, and no data arrives but in pages that were asked for.

const login = document.querySelector("[data-login]");
if (login && location.hash.length > 1) {
  const token = location.hash.slice(1);
  history.replaceState(null, "", location.pathname + location.search); // out of the address bar and the history
  login.elements.token.value = token;
  login.submit();
}

function filterCells(text) {
  const wanted = text.toLowerCase();
  for (const cell of document.querySelectorAll(".cell")) {
    cell.hidden = !cell.querySelector(".name").title.toLowerCase().includes(wanted);
  }
}

const filter = document.querySelector("[data-filter]");
filter?.addEventListener("input", () => filterCells(filter.value));

// A page is asked for once more, and its live parts take the place of the old ones.
let isAsking = false;
let isAskedAgain = false;

function refresh() {
  if (isAsking) {
    isAskedAgain = true;
    return;
  }
  isAsking = true;
  const request = new XMLHttpRequest();
  request.responseType = "document";
  request.open("GET", location.href);
  request.setRequestHeader("x-by-itself", "1"); // not a sign that somebody is there
  request.onloadend = () => {
    if (request.status === 200 && request.response) replaceParts(request.response);
    else tell("This page is no longer up to date");
    isAsking = false;
    refreshUntilComplete();
    if (isAskedAgain) {
      isAskedAgain = false;
      setTimeout(refresh, 300);
    }
  };
  request.send();
}

// A large store is looked at for a while when it is first shown.
function refreshUntilComplete() {
  if (document.querySelector("[data-incomplete]")) setTimeout(refresh, 1500);
}

// A page that waits for something is loaded again, at the place where one reads.
if (document.querySelector("[data-again]")) setTimeout(() => location.reload(), 1000);

function replaceParts(page) {
  for (const part of document.querySelectorAll("[data-live]")) {
    const next = page.querySelector(`[data-live="${part.dataset.live}"]`);
    if (!next || next.innerHTML === part.innerHTML) continue;
    const focused = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    const picked = [...part.querySelectorAll("input:checked")].map((each) => [each.name, each.value]);
    const opened = [...part.querySelectorAll("details[open]")].map((each) => each.id);
    part.replaceChildren(...next.childNodes);
    for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
    for (const [name, value] of picked) {
      const again = part.querySelector(`input[name="${name}"][value="${CSS.escape(value)}"]`);
      if (again) again.checked = true;
    }
    if (focused) part.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
  }
  if (filter?.value) filterCells(filter.value);
}

function tell(state) {
  const sign = document.querySelector("[data-live-state]");
  if (!sign) return;
  sign.firstElementChild.textContent = state;
  sign.classList.toggle("live", state === "live");
  sign.hidden = false;
}

const address = document.body.dataset.events;
let stream = null;

function follow() {
  if (stream || document.hidden || !address) return;
  stream = new EventSource(address);
  stream.onopen = () => tell("live");
  stream.onerror = () => tell("This page is no longer up to date");
  stream.onmessage = (event) => {
    const { stage } = JSON.parse(event.data);
    const announcer = document.querySelector("[data-announce]");
    if (announcer && stage) announcer.textContent = `${stage} changed`;
    refresh();
  };
}

function rest() {
  stream?.close();
  stream = null;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    rest();
  } else {
    follow();
    if (address) refresh();
  }
});
addEventListener("pagehide", rest);
follow();
refreshUntilComplete();
