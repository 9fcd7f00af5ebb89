// What the page does by itself: fields that come and go, the measure's slider, the token, downloads. htmx asks the
// server. Texts enter the page as text only.
"use strict";
(() => {
  const $ = (selector, within = document) => within.querySelector(selector);
  const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
  const STORED = "pluralign-token";
  const EXAMPLE = {
    turns: [["user", "My neighbour plays loud music every night. What should I do?"]],
    responses: [
      "Talk to them first: people often do not know how much is heard next door. Choose a calm moment, say what you hear and when, and suggest an hour after which it is quiet.",
      "Call the police at once and let them deal with it.",
      "Play louder music yourself. They will understand soon enough!",
    ],
  };
  let read = [];  // the responses as they were when they were scored

  // --- the token: in this tab only ---------------------------------------------------------------------------

  const token = () => sessionStorage.getItem(STORED);
  const needsToken = document.body.dataset.needsToken === "yes";

  function start() {
    if (needsToken && !token()) return askForToken("");
    $("#token-form").hidden = true;
    htmx.trigger(document.body, "start");
  }

  function askForToken(problem) {
    sessionStorage.removeItem(STORED);
    $("#token-form").hidden = false;
    $("#token-problem").textContent = problem;
    $("#token").focus();
  }

  $("#token-form").addEventListener("submit", event => {
    event.preventDefault();
    const given = $("#token").value.trim();
    if (!/^[\x21-\x7e]+$/.test(given)) return askForToken("A token has letters, digits and signs, and no space.");
    sessionStorage.setItem(STORED, given);
    $("#token").value = "";
    $("#token-problem").textContent = "";
    if ($("#ask")) $("#token-form").hidden = true;
    else start();
  });

  const authorization = () => (token() ? { Authorization: `Bearer ${token()}` } : {});

  // --- what htmx sends and receives ---------------------------------------------------------------------------

  const bytes = parameters => new TextEncoder().encode(new URLSearchParams(parameters).toString()).length;
  const megabytes = count => (count / 2 ** 20).toFixed(1);

  function tooLarge(size) {
    const most = Number(document.body.dataset.maxBytes);
    return size > most && `The texts are ${megabytes(size)} MB as they are sent; this server reads at most ${megabytes(most)} MB at once. Shorten them, or remove responses.`;
  }

  function complain(words) {
    const line = document.createElement("p");
    line.textContent = words;
    $("#problem").replaceChildren(line);
    $("#problem").scrollIntoView({ block: "nearest" });
  }

  document.addEventListener("htmx:configRequest", event => {
    Object.assign(event.detail.headers, authorization());
    if (event.detail.path === "/explorer/rank" && !$("#key").value) event.preventDefault();  // nothing was read yet
    if (event.detail.path === "/explorer/read") {
      const problem = tooLarge(bytes(new FormData($("#ask"))));
      if (problem) {
        event.preventDefault();
        complain(problem);
      } else read = $$("#responses textarea").map(one => one.value);
    }
  });

  document.addEventListener("htmx:beforeRequest", event => {
    if (event.detail.elt.id === "ask") $("#score").textContent = "Scoring …";
  });
  document.addEventListener("htmx:afterRequest", event => {
    if (event.detail.elt.id === "ask") $("#score").textContent = "Score";
  });

  document.addEventListener("htmx:beforeSwap", event => {
    const status = event.detail.xhr.status;
    if (status === 401) {
      event.detail.shouldSwap = false;
      askForToken("This token is not the server's. Try again.");
    } else if (status === 410) {  // not kept any more: read the texts again
      event.detail.shouldSwap = false;
      htmx.trigger("#ask", "submit");
    }
  });

  document.addEventListener("htmx:afterSwap", event => {
    if ($("#ask") && !$("#ask").dataset.ready) prepare();
    if (event.detail.target.id === "problem") $("#problem").scrollIntoView({ block: "nearest" });
    if (event.detail.target.id !== "seen") return;
    if (event.detail.requestConfig.path === "/explorer/read") $("#stale").hidden = true;
    $("#told").className = "hide";  // the ranking stands below it; it speaks to those who do not see that
    for (const place of $$(".excerpt")) place.textContent = read[Number(place.dataset.response) - 1] || "";
    followGate();
  });

  for (const kind of ["htmx:sendError", "htmx:timeout"])
    document.addEventListener(kind, () => $("#problem") && complain("The server cannot be reached. Is it still running?"));

  // --- turns and responses -------------------------------------------------------------------------------------

  function renumber() {
    $$("#turns .turn").forEach((turn, i) => {
      $("select", turn).setAttribute("aria-label", `Who speaks in turn ${i + 1}`);
      $("textarea", turn).setAttribute("aria-label", `Text of turn ${i + 1}`);
      $("button", turn)?.setAttribute("aria-label", `Remove turn ${i + 1}`);
    });
    const all = $$("#responses .response");
    all.forEach((response, i) => {
      const number = i + 1;
      $("textarea", response).id = `response-${number}`;
      const label = $("label", response), dot = $(".dot", label);
      label.htmlFor = `response-${number}`;
      dot.className = `dot c${i % 8 + 1}`;
      label.replaceChildren(dot, `Response ${number}`);
      const remove = $("button", response);
      remove.setAttribute("aria-label", `Remove response ${number}`);
      remove.hidden = all.length === 1;
    });
    $("#add-response").disabled = all.length >= Number($("#responses").dataset.most);
  }

  function add(kind, role = "user", text = "") {
    const part = $(`#${kind}-template`).content.cloneNode(true).firstElementChild;
    $(kind === "turn" ? "#turns" : "#responses").append(part);
    if (kind === "turn") $("select", part).value = role;
    $("textarea", part).value = text;
    renumber();
    return part;
  }

  function remove(part) {
    const neighbour = part.previousElementSibling || part.nextElementSibling;
    part.remove();
    renumber();
    if (neighbour) $("textarea", neighbour).focus();
    changed();
  }

  function changed() {
    $("#stale").hidden = !$("#key").value;
  }

  function fillIn(example) {
    $$("#turns .turn").slice(1).forEach(one => one.remove());
    $("#turns select").value = example.turns[0][0];
    $("#turns textarea").value = example.turns[0][1];
    $$("#responses .response").forEach(one => one.remove());
    example.responses.forEach(text => add("response", "", text));
    changed();
  }

  // --- the measure and the weights -----------------------------------------------------------------------------

  const option = () => $("#measure").selectedOptions[0];

  function showMeasure() {
    const data = option().dataset;
    $("#measure-words").textContent = data.words;
    $("#parameter-line").hidden = !data.parameter;
    $("#parameter-name").textContent = data.parameter;
    $("#parameter-value").textContent = $("#parameter").value;
  }

  function setSlider(value) {
    const data = option().dataset, slider = $("#parameter");
    if (!data.parameter) return;
    slider.step = "any";
    [slider.min, slider.max] = [Math.min(data.low, value), Math.max(data.high, value)];
    slider.value = value;
    slider.step = data.step;
  }

  function chooseMeasure() {
    const data = option().dataset, name = option().value;
    setSlider(Number(data.start));
    if (name) $("#risk").value = data.parameter ? `${name}:${Number($("#parameter").value)}` : name;
    showMeasure();
  }

  function readMeasure() {  // from its text
    const [name, ...rest] = $("#risk").value.trim().split(":");
    const known = $$("#measure option").find(one => one.value === name && Boolean(one.dataset.parameter) === (rest.length === 1));
    $("#measure").value = known ? name : "";
    if (known && rest.length && Number.isFinite(Number(rest[0]))) setSlider(Number(rest[0]));
    showMeasure();
  }

  function followGate() {  // sliders show the gate's weights until somebody moves them
    if (!$("#weigh") || $("#weigh").checked) return;
    for (const row of $$("#gate tr[data-weight]")) {
      const slider = $$(".weight input").find(one => one.dataset.name === row.dataset.name);
      if (slider) slider.value = row.dataset.weight;
    }
    showWeights();
  }

  function showWeights() {
    for (const slider of $$(".weight input")) {
      slider.disabled = !$("#weigh").checked;
      $("output", slider.parentElement).textContent = Number(slider.value).toFixed(2);
    }
  }

  // --- downloads -----------------------------------------------------------------------------------------------

  async function download(what) {
    const body = new URLSearchParams([...new FormData($("#ask")), ...new FormData($("#settings"))]);
    const problem = tooLarge(bytes(body));
    if (problem) return complain(problem);
    let answer;
    try {
      answer = await fetch(`/explorer/export?what=${what}`, { method: "POST", body, headers: authorization() });
    } catch {
      return complain("The server cannot be reached. Is it still running?");
    }
    if (answer.status === 401) return askForToken("This token is not the server's. Try again.");
    if (!answer.ok) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      return complain(page.body.textContent.trim());
    }
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await answer.blob());
    link.download = answer.headers.get("Content-Disposition").split('"')[1];
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  async function copy() {
    const button = $("#copy"), before = button.textContent;
    try {
      await navigator.clipboard.writeText($("#command").textContent);
      button.textContent = "Copied";
    } catch {  // a page without HTTPS from elsewhere may not
      getSelection().selectAllChildren($("#command"));
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = before; }, 1500);
  }

  // --- all of it -------------------------------------------------------------------------------------------------

  function prepare() {
    $("#ask").dataset.ready = "yes";
    $("#token-form").hidden = true;
    $("#add-turn").addEventListener("click", () => {
      const last = $$("#turns select").at(-1).value;
      $("textarea", add("turn", last === "user" ? "assistant" : "user")).focus();
    });
    $("#add-response").addEventListener("click", () => $("textarea", add("response")).focus());
    $("#ask").addEventListener("click", event => {
      const button = event.target.closest(".remove");
      if (button) remove(button.closest(".turn, .response"));
    });
    $("#ask").addEventListener("input", changed);
    $("#ask").addEventListener("keydown", event => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        $("#ask").requestSubmit();
      }
    });
    $("#example").addEventListener("click", () => {
      fillIn(EXAMPLE);
      $("#score").focus();
    });
    $("#measure").addEventListener("input", chooseMeasure);
    $("#parameter").addEventListener("input", () => {
      if (option().value) $("#risk").value = `${option().value}:${Number($("#parameter").value)}`;
      showMeasure();
    });
    $("#risk").addEventListener("input", readMeasure);
    $("#settings").addEventListener("submit", event => event.preventDefault());
    if ($("#weigh")) {
      $("#weigh").addEventListener("input", showWeights);
      $(".weights").addEventListener("input", showWeights);
      showWeights();
    }
    renumber();
    readMeasure();
  }

  document.addEventListener("click", event => {
    const button = event.target.closest(".export");
    if (button) download(button.dataset.what);
    if (event.target.id === "copy") copy();
  });
  document.addEventListener("DOMContentLoaded", start);
})();
