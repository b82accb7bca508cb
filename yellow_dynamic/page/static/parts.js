// What the list of streams and the tab of one stream have in common. React and Chakra UI are
// Airflow's own, so the page has Airflow's look in the light and in the dark.

const { React, ChakraUI, ReactRouterDOM } = globalThis;

export const h = React.createElement;
export const { Box, Flex, Heading, HStack, Text } = ChakraUI;

const REFRESH_MS = 15_000;
const SOON_MS = 1_500;

/** Fetch JSON from the page's server as the user who is logged in to Airflow. */
async function ask(path) {
  const url = new URL(`yellow-dynamic/api/${path}`, document.baseURI);
  const answer = await fetch(url, { credentials: "same-origin" });
  if (answer.ok) return answer.json();
  const said = await answer.json().catch(() => ({}));
  const error = new Error(said.detail ?? `Airflow answered ${answer.status} to ${url.pathname}.`);
  throw Object.assign(error, { status: answer.status });
}

/** Return what the server says, asked anew while the page is seen, and why it says nothing. */
export function useAnswer(path) {
  const [said, setSaid] = React.useState({ answer: null, error: null });
  React.useEffect(() => {
    let here = true;
    let timer;
    const refresh = async () => {
      let pause = REFRESH_MS;
      try {
        const answer = document.hidden ? null : await ask(path);
        if (answer && here) setSaid({ answer, error: null });
        if (answer?.newer_soon) pause = SOON_MS;
      } catch (error) {
        if (here) setSaid((before) => ({ ...before, error }));
      }
      if (here) timer = setTimeout(refresh, pause);
    };
    setSaid({ answer: null, error: null });
    refresh();
    return () => {
      here = false;
      clearTimeout(timer);
    };
  }, [path]);
  return said;
}

export const Link = ({ to, children, ...rest }) =>
  h(
    ChakraUI.Link,
    { asChild: true, color: "fg.info", ...rest },
    h(ReactRouterDOM.Link, { to }, children),
  );

export const StateBadge = ({ state, colour }) =>
  h(ChakraUI.Badge, { colorPalette: colour, variant: "subtle", size: "md" }, state);

/** A line that says that something is wrong. */
export const Banner = ({ status = "error", title, children }) =>
  h(
    ChakraUI.Alert.Root,
    { status, role: "alert", flexShrink: 0 },
    h(ChakraUI.Alert.Indicator),
    h(
      ChakraUI.Alert.Content,
      null,
      h(ChakraUI.Alert.Title, null, title),
      h(ChakraUI.Alert.Description, null, children),
    ),
  );

/** The banners of a platform: that its table cannot be read, and other problems. */
export const Problems = ({ platform }) => [
  platform.outage &&
    h(
      Banner,
      {
        key: "outage",
        title: `The table ${platform.table} of ${platform.platform} cannot be read`,
      },
      platform.outage,
    ),
  ...platform.problems.map((problem) =>
    h(Banner, { key: problem, title: platform.platform }, problem),
  ),
];

/** Write a time of the server, which is UTC, as the command does. */
export const asTime = (iso) => (iso ? `${iso.slice(0, 19).replace("T", " ")} UTC` : "");

const UNITS = [
  ["d", 86_400],
  ["h", 3_600],
  ["min", 60],
];

/** Write how long ago a time of the server is. */
export function asAge(iso, now) {
  const seconds = Math.max(0, (Date.parse(now) - Date.parse(`${iso}Z`)) / 1000);
  const [unit, size] = UNITS.find(([, least]) => seconds >= least) ?? ["s", 1];
  return `${Math.floor(seconds / size)} ${unit} ago`;
}

export const count = (number, noun) =>
  `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
