// The page Streams in Airflow's navigation, and the tab Stream on the page of a DAG. Airflow imports
// this file and then looks for components of these two names.

import {
  Banner,
  Box,
  Flex,
  HStack,
  Heading,
  Link,
  Problems,
  StateBadge,
  Text,
  asAge,
  asTime,
  h,
  useServerData,
} from "./parts.js";
import { Stream } from "./stream.js";

const { React, ChakraUI, ReactRouterDOM } = globalThis;
const { Button, Table } = ChakraUI;

const PAGE_SIZE = 50;
const TYPING_MS = 200;
const DEFAULT_ORDER = "state";
// The parameters that the URL of the page and that of its server have in common.
const PARAMETERS = ["platform", "state", "q", "order_by", "offset"];
const COLUMNS = [
  { name: "stream", sortKey: "stream_key", width: "17%" },
  { name: "state", sortKey: "state", width: "22%" },
  { name: "last good batch", sortKey: "good_batch", width: "165px" },
  { name: "rows", width: "120px" },
  { name: "schedule", sortKey: "schedule", width: "9%" },
  { name: "revision", width: "115px" },
  { name: "last change", sortKey: "last_change", width: "18%" },
  { name: "", width: "125px" },
];

const line = (text, style = {}) => text && h(Text, { truncate: true, title: text, ...style }, text);
const small = (text) => line(text, { color: "fg.muted", fontSize: "xs" });
const cell = (...children) => h(Table.Cell, { verticalAlign: "top" }, ...children);
const asNumber = (number) => number.toLocaleString("en");

/** Return the parameters of the URL and a function that changes some; an empty one is removed. */
function useParameters() {
  const [params, setParams] = ReactRouterDOM.useSearchParams();
  const change = (changes, options) => {
    const after = new URLSearchParams(params);
    // Another search, filter or order begins at its first page.
    for (const [name, value] of Object.entries({ offset: "", ...changes })) {
      value ? after.set(name, value) : after.delete(name);
    }
    setParams(after, options);
  };
  return [params, change];
}

/** Write which batch the rows are of, or the state of a newer one. */
const describeBatch = ({ good_batch: good, newest_batch: newest }) =>
  newest ? `now ${newest.number} ${newest.status}` : good && `batch ${good.number}`;

function Row({ stream, now, showPlatform }) {
  const { stream_key: key, dag_id: dagId, good_batch: good, last_change: change } = stream;
  const origin = [stream.store !== key && stream.store, showPlatform && stream.platform];
  return h(
    Table.Row,
    null,
    cell(
      h(
        Text,
        { truncate: true, title: dagId },
        stream.has_dag ? h(Link, { to: `/dags/${dagId}` }, key) : key,
      ),
      small(origin.filter(Boolean).join(", ")),
    ),
    cell(h(StateBadge, { state: stream.state, colour: stream.colour }), small(stream.reason)),
    cell(good && line(asAge(good.ended, now)), good && small(asTime(good.ended))),
    cell(good && line(good.rows), small(describeBatch(stream))),
    cell(line(stream.schedule)),
    cell(line(stream.revision, { fontFamily: "mono", fontSize: "xs" })),
    cell(
      change && line(`${change.action} by ${change.who}`),
      change && small(`${asTime(change.at)}, ${change.how}`),
    ),
    cell(
      stream.has_dag && h(Link, { to: `/dags/${dagId}/runs`, mr: 3 }, "Runs"),
      // Not the tab of its DAG: a disabled stream has a history and no DAG.
      h(Link, { to: `?stream=${encodeURIComponent(dagId)}` }, "History"),
    ),
  );
}

/** The heading of a column; a click sorts by it, and another click reverses the order. */
function ColumnHeader({ name, sortKey, order, sort }) {
  if (!sortKey) return h(Table.ColumnHeader, null, name);
  const direction = { [sortKey]: "ascending", [`-${sortKey}`]: "descending" }[order];
  const next = direction === "ascending" ? `-${sortKey}` : sortKey;
  const arrow = { ascending: " ↑", descending: " ↓" }[direction];
  return h(
    Table.ColumnHeader,
    { "aria-sort": direction ?? "none" },
    h(
      ChakraUI.chakra.button,
      { type: "button", cursor: "pointer", onClick: () => sort(next) },
      name,
      arrow && h("span", { "aria-hidden": true }, arrow),
    ),
  );
}

function Rows({ data, isLoading, order, sort }) {
  const scroller = React.useRef(null);
  React.useEffect(() => {
    scroller.current.scrollTop = 0;
  }, [data.offset]);
  const showPlatform = data.platforms.length > 1;
  return h(
    Table.ScrollArea,
    { ref: scroller, flex: 1, minH: "240px", borderWidth: 1, rounded: "md" },
    h(
      Table.Root,
      {
        "aria-busy": isLoading,
        "aria-label": "Streams",
        minW: "1080px",
        size: "sm",
        stickyHeader: true,
        tableLayout: "fixed",
      },
      h(
        Table.ColumnGroup,
        null,
        COLUMNS.map(({ name, width }) => h(Table.Column, { key: name, htmlWidth: width })),
      ),
      h(
        Table.Header,
        null,
        h(
          Table.Row,
          { bg: "bg.muted" },
          COLUMNS.map((column) => h(ColumnHeader, { key: column.name, ...column, order, sort })),
        ),
      ),
      h(
        Table.Body,
        null,
        data.streams.map((stream) =>
          h(Row, { key: stream.dag_id, now: data.at, showPlatform, stream }),
        ),
      ),
    ),
  );
}

/** Which of the streams are shown, and buttons to the pages before and after them. */
function Pages({ data, change }) {
  const { offset, total_entries: total, streams } = data;
  const end = offset + streams.length;
  const range = streams.length ? `${asNumber(offset + 1)}-${asNumber(end)} of ` : "";
  const button = (name, disabled, to) =>
    h(
      Button,
      { size: "xs", variant: "outline", disabled, onClick: () => change({ offset: `${to || ""}` }) },
      name,
    );
  return h(
    HStack,
    { gap: 3 },
    h(
      Text,
      { role: "status", color: "fg.muted", fontSize: "sm" },
      `${range}${asNumber(total)} ${total === 1 ? "stream" : "streams"}, as of ${asTime(data.at)}`,
    ),
    h(ChakraUI.Spacer),
    button("Previous", offset === 0, Math.max(0, offset - PAGE_SIZE)),
    button("Next", end >= total, offset + PAGE_SIZE),
  );
}

/** One button for each state with its number of streams; a click shows only these, or all again. */
const States = ({ states, chosen, choose }) =>
  h(
    HStack,
    { wrap: "wrap", gap: 2 },
    states
      .filter(({ state, count }) => count || state === chosen)
      .map(({ state, colour, count }) =>
        h(
          Button,
          {
            key: state,
            size: "xs",
            colorPalette: colour,
            variant: state === chosen ? "solid" : "subtle",
            "aria-pressed": state === chosen,
            onClick: () => choose(state === chosen ? "" : state),
          },
          `${asNumber(count)} ${state}`,
        ),
      ),
  );

/** The field to search in, which waits for a pause in the typing. */
function Search({ value, choose }) {
  const [text, setText] = React.useState(value);
  const sent = React.useRef(value);
  const latest = React.useRef(choose);
  latest.current = choose;
  React.useEffect(() => {
    // The URL changed by something else than this field, such as a link.
    if (value !== sent.current) setText((sent.current = value));
  }, [value]);
  React.useEffect(() => {
    if (text === sent.current) return;
    const timer = setTimeout(() => latest.current((sent.current = text)), TYPING_MS);
    return () => clearTimeout(timer);
  }, [text]);
  return h(ChakraUI.Input, {
    size: "sm",
    width: "300px",
    type: "search",
    placeholder: "Stream, store, reason or who changed it",
    "aria-label": "Search streams",
    value: text,
    onChange: (event) => setText(event.target.value),
  });
}

const PlatformSelect = ({ platforms, value, choose }) =>
  h(
    ChakraUI.NativeSelect.Root,
    { size: "sm", width: "220px" },
    h(
      ChakraUI.NativeSelect.Field,
      { value, "aria-label": "Platform", onChange: (event) => choose(event.target.value) },
      h("option", { value: "" }, "All platforms"),
      platforms.map(({ platform: name }) => h("option", { key: name, value: name }, name)),
    ),
    h(ChakraUI.NativeSelect.Indicator),
  );

function List({ data, isLoading, params, change }) {
  const { platforms, streams, total_entries: total } = data;
  const [chosen, state, q, order] = ["platform", "state", "q", "order_by"].map(
    (name) => params.get(name) ?? "",
  );
  React.useEffect(() => {
    // The streams of the last page may be gone.
    if (isLoading || streams.length || !total) return;
    const last = Math.floor((total - 1) / PAGE_SIZE) * PAGE_SIZE;
    change({ offset: `${last || ""}` }, { replace: true });
  }, [data, isLoading]);
  return [
    ...platforms
      .filter(({ platform }) => !chosen || platform === chosen)
      .map((platform) => h(Problems, { key: platform.platform, platform })),
    h(
      HStack,
      { key: "filters", gap: 4, wrap: "wrap" },
      platforms.length > 1 &&
        h(PlatformSelect, {
          platforms,
          value: chosen,
          choose: (platform) => change({ platform }),
        }),
      h(Search, { value: q, choose: (text) => change({ q: text }, { replace: true }) }),
      h(States, { states: data.states, chosen: state, choose: (name) => change({ state: name }) }),
    ),
    h(Pages, { key: "pages", data, change }),
    h(Text, { key: "changes", color: "fg.muted", fontSize: "sm" }, data.changes),
    h(Rows, {
      key: "rows",
      data,
      isLoading,
      order: order || DEFAULT_ORDER,
      sort: (by) => change({ order_by: by === DEFAULT_ORDER ? "" : by }),
    }),
  ];
}

let isMountedForGood = false;

function Streams() {
  const [params, setParams] = ReactRouterDOM.useSearchParams();
  React.useEffect(() => {
    // Once it has loaded this file, Airflow mounts the component anew at the next change of the
    // URL. Let that be now, or the first search, filter or sort would lose the keyboard's focus.
    if (isMountedForGood) return;
    isMountedForGood = true;
    setParams(params, { replace: true });
  }, []);
  const stream = params.get("stream");
  return stream ? h(OneStream, { dagId: stream }) : h(AllStreams);
}

const OneStream = ({ dagId }) =>
  h(
    Flex,
    { direction: "column", gap: 2, p: 2 },
    h(
      HStack,
      { gap: 4 },
      h(Link, { to: "." }, "All streams"),
      h(Link, { to: `/dags/${dagId}` }, dagId),
    ),
    h(Stream, { dagId }),
  );

function AllStreams() {
  const [params, change] = useParameters();
  const query = new URLSearchParams({ limit: PAGE_SIZE });
  for (const name of PARAMETERS) {
    if (params.get(name)) query.set(name, params.get(name));
  }
  const { data, error, isLoading } = useServerData(`streams?${query}`);
  return h(
    Flex,
    { direction: "column", gap: 3, height: "100%", minH: 0, p: 2 },
    h(Heading, { size: "lg" }, "Streams"),
    error && h(Banner, { title: "The streams cannot be shown" }, error.message),
    data?.problems.map((problem) =>
      h(Banner, { key: problem, title: "A factory file has no DAGs" }, problem),
    ),
    !data && !error && h(ChakraUI.Spinner, { "aria-label": "Loading" }),
    data?.platforms.length === 0 && h(Text, null, "There are no streams that you can read."),
    data?.platforms.length > 0 && h(List, { data, isLoading, params, change }),
  );
}

Object.assign(globalThis, { Streams, Stream });
