"""Opens the status page in a browser and looks at it as an operator would: drive.py CHROMIUM URL TOKEN FOLDER

The server behind URL has 500 releases at two targets and a run that moves. Pictures go to FOLDER. Ends with 1 and the reason when
something is not as it must be.
"""

import json
import sys
import time
from urllib.parse import urlsplit

from devtools import Browser

RELEASES, TARGETS = 500, 2
SHOWN_WITHIN_MS = 1000


def check(holds, what):
    if not holds:
        raise AssertionError(what)
    print(f"ok: {what}", flush=True)


def text(browser, selector):
    return browser.evaluate(f"document.querySelector({json.dumps(selector)})?.textContent ?? ''")


def choose(browser, selector, value):
    browser.evaluate(f"""(() => {{
      const select = document.querySelector({json.dumps(selector)});
      select.value = {json.dumps(value)};
      select.dispatchEvent(new Event('change', {{ bubbles: true }}));
    }})()""")


def shows_all_in_time(browser):
    browser.wait_for("performance.getEntriesByName('shown').length > 0", "the first event")
    first = browser.evaluate("performance.getEntriesByName('shown')[0].duration")
    # All groups open, laid out and painted: the worst that a user can ask for.
    opened = browser.evaluate("""(async () => {
      const button = [...document.querySelectorAll('[data-set=stable] .filter button')][0];
      performance.mark('open');
      button.click();
      document.body.getBoundingClientRect();
      await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
      return performance.measure('opened', 'open').duration;
    })()""")
    chips = browser.evaluate("document.querySelectorAll('[data-set=stable] .groups td.at .chip').length")
    check(chips == RELEASES * TARGETS, f"{chips} states of releases at targets are shown")
    print(f"first view {first:.0f} ms, all of {RELEASES} x {TARGETS} laid out and painted {opened:.0f} ms", flush=True)
    check(first + opened < SHOWN_WITHIN_MS, f"500 releases x 2 targets take {first + opened:.0f} ms, less than {SHOWN_WITHIN_MS}")
    time.sleep(2)
    events = browser.evaluate("performance.getEntriesByName('shown').slice(1).map((entry) => entry.duration)")
    events.sort()
    print(f"an event takes {events[len(events) // 2]:.1f} ms, at most {events[-1]:.1f} ms, of {len(events)}", flush=True)
    browser.evaluate("[...document.querySelectorAll('[data-set=stable] .filter button')][1].click()")


def progress_moves(browser):
    value = "Number(document.querySelector('[data-set=stable] .whole').getAttribute('aria-valuenow'))"
    bytes_shown = "document.querySelector('[data-set=stable] .figures .bytes').textContent"
    before = browser.evaluate(bytes_shown)
    browser.wait_for(f"{bytes_shown} !== {json.dumps(before)}", "progress in bytes")
    check(0 < browser.evaluate(value) <= 100, "the run's bar tells its share")
    first = browser.evaluate("document.querySelector('.under-way .amount').textContent")
    browser.wait_for(f"document.querySelector('.under-way .amount').textContent !== {json.dumps(first)}", "progress of a file")
    files = browser.evaluate("document.querySelectorAll('.under-way li').length")
    check(files == 18, f"{files} files under way have bars")
    # What did not change was not made anew.
    browser.evaluate("window.kept = document.querySelector('[data-set=stable] tbody tr'); kept.dataset.kept = '1'")
    time.sleep(1)
    check(browser.evaluate("document.querySelector('[data-set=stable] tbody tr') === window.kept"), "rows stay while progress moves")


def tells_what_failed(browser):
    check("failed" in text(browser, "#verdict"), "the first sentence tells of failures")
    check("kubelet" in text(browser, "[data-set=stable] .alarm-list"), "files that failed are named")
    check("rate limit ends in 24 minutes" in text(browser, "[data-set=broken] .alarm"), "why a run failed is told")
    check("<b>now</b>" in text(browser, "[data-set=stable] .alarm-list"), "markup in a message is shown as text")
    check(browser.evaluate("document.querySelector('.alarm-list b') === null"), "and is no markup")
    check("withdrawn upstream" in text(browser, "[data-set=stable] .notes"), "notes are shown")
    check("2 pointers stay where they are" in text(browser, "[data-set=stable] .withheld"), "pointers that are withheld are told apart")
    waiting = text(browser, "[data-set=stable] .others [data-run='20261124T210600Z-4']")
    check("Prune" in waiting and "Waits" in waiting, f"a run that waits is shown: {waiting}")
    beside = text(browser, "[data-set=stable] .others [data-run='20261124T190000Z-1']")
    check("Scrub" in beside and "beside" in beside, f"a scrub beside the run is shown: {beside}")
    title = browser.evaluate("document.querySelector('[data-set=stable] .facts time').title")
    check(title.endswith("UTC"), f"times have their UTC in the title: {title}")


def history_is_shown(browser):
    browser.wait_for("document.querySelectorAll('#runs details').length === 40", "forty runs")
    check(browser.evaluate("document.querySelectorAll('#plots svg').length") == 3, "three plots")
    check(browser.evaluate("document.querySelectorAll('#plots rect.bad').length") > 0, "failed runs stand out in them")
    browser.evaluate("document.querySelector('#runs summary').click()")
    browser.wait_for("document.querySelector('#runs .story .alarm-list') !== null", "the failures of a run")
    browser.evaluate("document.querySelector('#older').click()")
    browser.wait_for("document.querySelectorAll('#runs details[data-run]').length === 60", "older runs")


def repetitions_take_one_line(browser):
    repeated = "[...document.querySelectorAll('#runs details')].find((run) => run.querySelector('.times'))"
    check(browser.evaluate(f"{repeated}.querySelector('.chip').textContent") == "Held by another×12", "a run that stands for twelve says so")
    browser.evaluate(f"{repeated}.querySelector('summary').click()")
    browser.wait_for(f"{repeated}.querySelector('.story')?.textContent.includes('12 times like this since')", "since when")


def asks_for_the_plan(browser, token):
    browser.evaluate("document.querySelector('[data-set=stable] .plan-button').click()")
    browser.wait_for("document.querySelector('#ask').open && document.activeElement.id === 'token'", "the question for the token")
    browser.ask("Input.insertText", text=token)
    browser.key("Enter", "Enter", 13, "\r")


def the_plan_is_shown(browser, token, folder):
    asks_for_the_plan(browser, token)
    plan = "document.querySelector('[data-set=stable] .plan')"
    browser.wait_for(f"!{plan}.hidden && {plan}.querySelectorAll('.plan-files tbody tr').length === 100", "the plan, its first hundred files")
    told = browser.evaluate(f"{plan}.innerText")
    for words in ("152 files to transfer (1.45 GiB and 1 of unknown length)", "700 in place", "620 requests", "kops-1.36.2_kubernetes-1.36.9", "154", "it is missing", "sha256 sha1", "github.com answered 404"):
        check(words in told, f"the plan tells '{words}'")
    check("<i>MD5</i>" in told and browser.evaluate(f"{plan}.querySelector('i') === null"), "markup in a reason is shown as text")
    apart = browser.evaluate(f"{plan}.querySelectorAll('.plan-files tbody tr')[1].querySelectorAll('.why div').length")
    check(apart == 2, "where targets differ, each has its line")
    browser.evaluate(f"[...{plan}.querySelectorAll('.plan-files > button')].at(-1).click()")
    check(browser.evaluate(f"{plan}.querySelectorAll('.plan-files tbody tr').length") == 153, "the rest is shown when it is asked for")
    browser.evaluate(f"{plan}.scrollIntoView()")
    time.sleep(0.3)
    browser.picture(f"{folder}/plan.png")
    contrast_is_enough(browser, "light")
    check(browser.evaluate("document.querySelector('[data-set=stable] .plan-button').getAttribute('aria-busy') === null"), "the button can be used again")


def can_be_filtered(browser):
    browser.evaluate("""(() => {
      const find = document.querySelector('[data-set=stable] input[type=search]');
      find.value = 'kubernetes-1.36.7';
      find.dispatchEvent(new Event('input'));
    })()""")
    rows = "[...document.querySelectorAll('[data-set=stable] tbody tr')].filter((row) => row.offsetParent !== null).length"
    found = browser.evaluate(rows)
    check(0 < found < 20, f"{found} releases are found by their name")
    browser.evaluate("""(() => {
      const find = document.querySelector('[data-set=stable] input[type=search]');
      find.value = '';
      find.dispatchEvent(new Event('input'));
      document.querySelector('[data-set=stable] .check input').click();
    })()""")
    check(browser.evaluate(rows) == 5, "five releases are not complete")
    browser.evaluate("document.querySelector('[data-set=stable] .check input').click()")


def tab_to(browser, test, what):
    for _ in range(60):
        browser.key("Tab", "Tab", 9)
        if browser.evaluate(f"((at) => Boolean({test}))(document.activeElement)"):
            return
    raise AssertionError(f"no Tab leads to {what}")


def runs_are_started_and_stopped_by_keyboard(browser, token, folder):
    browser.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    tab_to(browser, "at.dataset?.purpose === 'sync'", "the button that syncs")
    browser.key("Enter", "Enter", 13, "\r")
    browser.wait_for("document.querySelector('#ask').open && document.activeElement.id === 'token'", "the question for the token")
    browser.ask("Input.insertText", text="wrong-token-wrong-token")
    browser.key("Enter", "Enter", 13, "\r")
    browser.wait_for("document.querySelector('#ask-wrong').textContent !== '' && document.activeElement.id === 'token'", "that the token is wrong")
    browser.picture(f"{folder}/question.png")
    browser.ask("Input.insertText", text=token)
    browser.key("Enter", "Enter", 13, "\r")
    browser.wait_for("document.querySelector('#told').textContent.includes('20261124T220000Z-9')", "the started run's id")
    check(browser.evaluate("!Object.values(localStorage).some((value) => value.includes('token-'))"), "no token in what outlives the tab")
    check(browser.evaluate(f"sessionStorage.getItem('kops-mirror.token') === {json.dumps(token)}"), "the token is kept in the tab")
    check(browser.evaluate("document.querySelector('#token').value === '' && !document.body.outerHTML.includes('secret-that')"), "and stands nowhere in the page")
    browser.evaluate("document.querySelector('.doing .stop').click()")
    browser.wait_for("document.querySelector('#ask').open", "the question whether to stop")
    browser.evaluate("document.querySelector('#ask-yes').click()")
    browser.wait_for("document.querySelector('#told').textContent.includes('20261124T210500Z-3')", "that the run is being stopped")
    browser.evaluate("document.querySelector('#forget').click()")
    check(browser.evaluate("sessionStorage.getItem('kops-mirror.token') === null"), "the token can be forgotten")


# Words of three Latin letters and more that stand in no name, no code, and nothing that is marked as English; also in attributes
# that are read aloud.
ENGLISH_LEFT = """(() => {
  const names = /kops-mirror|kops|Kubernetes|OpenAPI|API|English|JavaScript|SHA-?\\d+|MD5|ETag|UTC|GMT|[KMGT]iB|Etc\\/\\w+/g;
  const given = '[lang=en], code, option, noscript, dialog:not([open]), .sprite, .place, .key, .of, .name, .folder, #zone, h2[id^=set-]';
  const sets = [...document.querySelectorAll('[data-set]')].map((card) => card.dataset.set);
  const bare = (text) => sets.reduce((text, set) => text.replaceAll(set, ''), text).replace(names, '').replace(/\\S*[:@/]\\S*|[\\w.-]+\\.[\\w-]+/g, '');
  const left = [];
  const note = (text) => { if (/[A-Za-z]{3,}/.test(bare(text))) left.push(text.trim().slice(0, 60)); };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) if (!node.parentElement.closest(given)) note(node.data);
  for (const element of document.querySelectorAll('[aria-label], [placeholder], [title]')) {
    if (element.closest('.key, .place') || element.matches('.bar, tbody th')) continue;
    for (const name of ['aria-label', 'placeholder', 'title']) note(element.getAttribute(name) ?? '');
  }
  return [...new Set(left)];
})()"""


def speaks_both(browser, folder):
    choose(browser, "#language", "zh")
    check(text(browser, "#history-title") == "历史", "it speaks Chinese")
    check(browser.evaluate("document.documentElement.lang") == "zh-CN", "and says so")
    browser.evaluate("document.querySelector('[data-set=stable] .plan-button').click()")
    browser.wait_for("document.querySelectorAll('[data-set=stable] .plan-files tbody tr').length === 100", "the plan in Chinese")
    browser.evaluate("document.querySelectorAll('#runs details').forEach((run) => { if (!run.open) run.querySelector('summary').click(); })")
    browser.wait_for("document.querySelectorAll('#runs .story').length === 60", "all runs open")
    left = browser.evaluate(ENGLISH_LEFT)
    check(left == [], f"no English of the page is left: {left}")
    check("尚不存在" in text(browser, ".plan-files .why"), "reasons that the page knows are told in Chinese")
    marked = browser.evaluate("[...document.querySelectorAll('.alarm-list p, .alarm p, .notes .note')].every((line) => /^(原因|提示)：/.test(line.textContent) ) && document.querySelector('.alarm-list [lang=en]') !== null")
    check(marked, "sentences of the program stand behind a Chinese word, and are marked as English")
    browser.evaluate("document.querySelector('[data-set=stable] .plan').scrollIntoView()")
    time.sleep(0.3)
    browser.picture(f"{folder}/plan-chinese.png")
    browser.evaluate("document.querySelector('[data-set=stable] .plan .head button').click()")
    check(browser.evaluate("document.querySelector('[data-set=stable] .plan').hidden"), "the plan can be closed")
    browser.evaluate("document.querySelector('#forget').click()")
    missing = browser.evaluate("import('/page/words.js').then((words) => words.unequal())")
    check(missing == [], f"both languages have the same words: {missing}")


def language_and_theme_are_remembered(browser, url):
    choose(browser, "#theme", "dark")
    browser.open(url)
    browser.wait_for("document.querySelector('#verdict p') !== null")
    check(text(browser, "#history-title") == "历史", "the language is remembered")
    ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    check(ground == "rgb(15, 21, 27)", f"the theme is remembered, on a light system too: {ground}")
    choose(browser, "#theme", "auto")
    ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    check(ground == "rgb(244, 246, 248)", f"and the system's is followed otherwise: {ground}")
    choose(browser, "#language", "en")


def contrast_is_enough(browser, theme):
    worst = browser.evaluate(CONTRAST)
    print(f"least contrast in the {theme} theme: {worst}", flush=True)
    check(worst["ratio"] >= 4.5, f"all texts can be read in the {theme} theme")


# Each visible text against what is painted behind it, by WCAG 2: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
CONTRAST = """(() => {
  const parse = (colour) => { const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number); return { rgb: [r, g, b], a }; };
  const light = (rgb) => { const [r, g, b] = rgb.map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (element) => { for (; element; element = element.parentElement) { const { rgb, a } = parse(getComputedStyle(element).backgroundColor); if (a === 1) return rgb; } return [255, 255, 255]; };
  let worst = { ratio: 21, text: '' };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.offsetParent || element.closest('.hidden, noscript, option')) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color).rgb), light(behind(element))].sort((a, b) => b - a);
    const ratio = Math.round((a + 0.05) / (b + 0.05) * 100) / 100;
    if (ratio < worst.ratio) worst = { ratio, text: node.data.trim().slice(0, 40), class: element.className };
  }
  return worst;
})()"""


def nothing_sticks_out(browser):
    over = browser.evaluate("""[...document.querySelectorAll('body *')].filter((element) => element.offsetParent !== null
      && !element.closest('.hidden, .folder, .key') && element.getBoundingClientRect().right > 360.5).map((element) => element.className || element.tagName).slice(0, 5)""")
    check(over == [], f"nothing sticks out: {over}")


def fits_a_phone(browser, token, folder):
    browser.look_as(360, 740)
    asks_for_the_plan(browser, token)
    browser.wait_for("!document.querySelector('[data-set=stable] .plan').hidden", "the plan on a phone")
    browser.evaluate("document.querySelector('[data-set=stable] .plan').scrollIntoView()")
    time.sleep(0.3)
    browser.picture(f"{folder}/phone-plan.png")
    nothing_sticks_out(browser)
    for language in ("zh", "en"):
        choose(browser, "#language", language)
        browser.evaluate("document.querySelectorAll('#runs summary')[0].click()")
        width = browser.evaluate("document.documentElement.scrollWidth")
        check(width <= 360, f"{width} px of 360, in {language}")
        nothing_sticks_out(browser)
        browser.evaluate("scrollTo(0, 0)")
        browser.picture(f"{folder}/phone-{language}.png")
    browser.look_as(360, 4200)
    time.sleep(0.3)
    browser.picture(f"{folder}/phone-long.png")
    browser.look_as(360, 1100)
    for place in ("broken", "stable .releases"):
        browser.evaluate(f"document.querySelector('[data-set={place.split()[0]}]{' .releases' if ' ' in place else ''}').scrollIntoView()")
        time.sleep(0.3)
        browser.picture(f"{folder}/phone-{place.split()[-1].strip('.')}.png")


def everything_is_named(browser):
    rubbish = [word for word in ("[object", "undefined", "NaN", "null") if word in browser.evaluate("document.body.innerText")]
    check(rubbish == [], f"no value is shown that is none: {rubbish}")
    nameless = browser.evaluate("""[...document.querySelectorAll('button, input, select, a, [role=progressbar], [role=img], summary')]
      .filter((element) => !(element.textContent.trim() || element.getAttribute('aria-label') || element.labels?.length)).map((element) => element.outerHTML.slice(0, 80))""")
    check(nameless == [], f"everything that can be used has a name: {nameless}")
    double = browser.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id).filter((id, at, all) => all.indexOf(id) !== at)")
    check(double == [], f"no id is there twice: {double}")


def main(program, url, token, folder):
    browser = Browser(program)
    try:
        browser.look_as(1280, 900)
        browser.open(url)
        shows_all_in_time(browser)
        progress_moves(browser)
        tells_what_failed(browser)
        history_is_shown(browser)
        repetitions_take_one_line(browser)
        can_be_filtered(browser)
        everything_is_named(browser)
        contrast_is_enough(browser, "light")
        browser.picture(f"{folder}/light.png")
        browser.look_as(1280, 3000)
        time.sleep(0.3)
        browser.picture(f"{folder}/light-long.png")
        browser.look_as(1280, 900)
        browser.evaluate("document.querySelector('[data-set=broken]').scrollIntoView()")
        time.sleep(0.3)
        browser.picture(f"{folder}/history.png")
        runs_are_started_and_stopped_by_keyboard(browser, token, folder)
        the_plan_is_shown(browser, token, folder)
        speaks_both(browser, folder)
        browser.picture(f"{folder}/chinese.png")
        language_and_theme_are_remembered(browser, url)
        browser.look_as(1280, 2000, "dark")
        browser.wait_for("document.querySelectorAll('#runs details').length > 0")
        contrast_is_enough(browser, "dark")
        browser.picture(f"{folder}/dark.png")
        fits_a_phone(browser, token, folder)
        elsewhere = [asked for asked in browser.requests if urlsplit(asked).netloc != urlsplit(url).netloc and asked.startswith("http")]
        check(elsewhere == [], f"nothing is asked for elsewhere: {elsewhere}")
        # The one wrong token was answered with 401, which a browser logs.
        complaints = [complaint for complaint in browser.complaints if "401" not in complaint]
        check(complaints == [], f"no complaint in the console: {complaints}")
        print("the page is as it must be")
    finally:
        browser.close()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (AssertionError, RuntimeError) as error:
        sys.exit(f"not so: {error}")
