// What the list of streams and the tab of one stream have in common. React and Chakra UI are
// Airflow's own, so the page has Airflow's look in the light and in the dark.

const { React, ChakraUI, ReactRouterDOM } = globalThis;

export const h = React.createElement;
export const { Box, Flex, Heading, HStack, Text } = ChakraUI;

const REFRESH_MS = 15_000;
const SOON_MS = 1_500;

/** Return why the server refused a request; FastAPI lists the values that are not valid. */
const asReason = ({ detail }) =>
  Array.isArray(detail) ? detail.map(({ loc, msg }) => `${loc.at(-1)}: ${msg}`).join(". ") : detail;

/** Fetch JSON from the page's server as the user who is logged in to Airflow. */
async function fetchJson(path, signal) {
  const url = new URL(`yellow-dynamic/api/${path}`, document.baseURI);
  const response = await fetch(url, { credentials: "same-origin", signal });
  if (response.ok) return response.json();
  const reason = asReason(await response.json().catch(() => ({})));
  const error = new Error(reason ?? `Airflow responded ${response.status} to ${url.pathname}.`);
  throw Object.assign(error, { status: response.status });
}

/**
 * Return what the server has at a path, fetched again and again while the page is visible.
 *
 * `isLoading` says that `data` is still that of an earlier path.
 */
export function useServerData(path) {
  const [state, setState] = React.useState({ path: null, data: null, error: null });
  React.useEffect(() => {
    const controller = new AbortController();
    const { signal } = controller;
    let timer;
    const refresh = async () => {
      let pause = REFRESH_MS;
      try {
        const data = document.hidden ? null : await fetchJson(path, signal);
        // A response to an earlier search never replaces that to a later one.
        if (data && !signal.aborted) setState({ path, data, error: null });
        if (data?.newer_soon) pause = SOON_MS;
      } catch (error) {
        if (!signal.aborted) setState((before) => ({ ...before, path, error }));
      }
      if (!signal.aborted) timer = setTimeout(refresh, pause);
    };
    refresh();
    return () => {
      controller.abort();
      clearTimeout(timer);
    };
  }, [path]);
  return { ...state, isLoading: state.path !== path };
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
