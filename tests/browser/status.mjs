// The status page of a running `pillion demo`, in a browser: `node status.mjs http://127.0.0.1:9901 [SCREENSHOT]`.
// CHROMIUM names the browser; without it Debian's is taken.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const [admin, screenshot] = process.argv.slice(2);
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const WIDTHS = [360, 800, 1280];
const PATIENCE = 20_000;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox"],
});
let done = 0;

/** A page at this width, with whatever it complained about. */
async function open({ width = 1280, colorScheme = "light", javaScriptEnabled = true } = {}) {
  // The policy of the page would keep out what looks at it, too: axe is let in by the browser, not by the page.
  const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme, javaScriptEnabled });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const complaints = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => {
    const own = request.url().startsWith(`${admin}/`) || request.url().startsWith("data:");
    if (!own) complaints.push(`asks elsewhere: ${request.url()}`);
  });
  const answer = await page.goto(`${admin}/status`);
  assert.equal(answer.status(), 200);
  return { page, complaints, close: () => context.close() };
}

async function check(promise, test) {
  await test();
  done += 1;
  console.log(`ok  ${promise}`);
}

const overflow = (page) =>
  page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);

/** What stands in cells in more than one line. */
const broken = (page) =>
  page.evaluate(() => {
    const lines = (cell) => {
      const range = document.createRange();
      range.selectNodeContents(cell);
      return new Set([...range.getClientRects()].map((it) => Math.round(it.top))).size;
    };
    return [...document.querySelectorAll("td")].filter((it) => lines(it) > 1).map((it) => it.textContent);
  });

try {
  for (const width of WIDTHS) {
    for (const colorScheme of ["light", "dark"]) {
      await check(`${width} px, ${colorScheme}: it fits, is accessible, and nothing is complained about`, async () => {
        const { page, complaints, close } = await open({ width, colorScheme });
        assert.equal(await overflow(page), 0, "it scrolls sideways");
        if (width > 576) assert.deepEqual(await broken(page), [], "figures of routes are broken into lines");
        // Tokens of many subjects are behind a disclosure: looked at open, too.
        await page.evaluate(() => document.querySelectorAll("details").forEach((it) => (it.open = true)));
        assert.equal(await overflow(page), 0, "it scrolls sideways when all is shown");
        await page.evaluate(axe);
        const { violations } = await page.evaluate(() => globalThis.axe.run());
        const told = violations.map((it) => `${it.id}: ${it.nodes.map((node) => node.html).join("\n")}`);
        assert.deepEqual(told, []);
        assert.deepEqual(complaints, []);
        await close();
      });
    }
  }

  await check("it refreshes itself, keeps what is open and the focus, and can be paused", async () => {
    const { page, complaints, close } = await open();
    const summary = page.locator("summary").first();
    await summary.focus();
    await page.keyboard.press("Enter");
    assert.ok(await page.locator("details").first().evaluate((it) => it.open));
    const button = page.locator("form button").first();
    const id = await button.getAttribute("id");
    await button.focus();
    const refreshed = async () => {
      await page.evaluate(() => document.getElementById("main").setAttribute("data-old", ""));
      await page.waitForFunction(() => !document.getElementById("main").hasAttribute("data-old"));
    };
    await refreshed();
    assert.equal(await page.evaluate(() => document.activeElement.id), id);
    assert.ok(await page.locator("details").first().evaluate((it) => it.open));
    await page.locator("#pause").focus();
    await page.keyboard.press("Space");
    assert.match(await page.locator("#live").textContent(), /^Paused/);
    await page.keyboard.press("Space");
    await refreshed();
    assert.deepEqual(complaints, []);
    await close();
  });

  await check("it says so when pillion does not answer, and goes on when it does", async () => {
    const { page, close } = await open();
    await page.route("**/status", (route) => route.abort());
    const says = (text) =>
      page.waitForFunction((text) => document.getElementById("live").textContent.startsWith(text), text);
    await says("pillion does not answer");
    await page.unroute("**/status");
    await page.waitForFunction(() => document.getElementById("live").textContent === "");
    await close();
  });

  const generation = async (name) => {
    const status = await (await fetch(`${admin}/status`, { headers: { accept: "application/json" } })).json();
    return status.providers.find((provider) => provider.name === name).tokens[0].generation;
  };
  for (const javaScriptEnabled of [true, false]) {
    const how = javaScriptEnabled ? "with" : "without";
    await check(`a token is renewed by keyboard alone, ${how} JavaScript`, async () => {
      const { page, complaints, close } = await open({ javaScriptEnabled });
      const button = page.getByRole("button", { name: "Renew forage-auth now" });
      const before = await generation("forage-auth");
      let steps = 0;
      while (!(await button.evaluate((it) => it === document.activeElement))) {
        assert.ok((steps += 1) < 100, "Tab does not lead there");
        await page.keyboard.press("Tab");
      }
      await Promise.all([page.waitForNavigation(), page.keyboard.press("Enter")]);
      assert.equal(page.url(), `${admin}/status`);
      assert.equal(await generation("forage-auth"), before + 1);
      const event = page.locator(".events li").first();
      assert.match(await event.textContent(), /renewed.*forage-auth.*somebody asked for it/);
      assert.deepEqual(complaints, []);
      await close();
    });
  }

  await check("without JavaScript all is there, and nothing that would not work", async () => {
    const { page, close } = await open({ javaScriptEnabled: false });
    for (const heading of ["Providers", "Routes", "Events"]) {
      await page.getByRole("heading", { name: heading, level: 2 }).waitFor();
    }
    assert.equal(await page.locator("#pause").isVisible(), false);
    await close();
  });

  if (screenshot) {
    const { page, close } = await open({ width: 1280 });
    await page.screenshot({ path: screenshot, clip: { x: 0, y: 0, width: 1280, height: 900 } });
    await close();
  }
} finally {
  await browser.close();
}
console.log(`${done} promises kept`);
