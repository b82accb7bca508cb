// The page Streams in Airflow's navigation, and the tab Stream on the page of a DAG. Airflow imports
// this file and then looks for components of these two names.

import {
  Virtualizer,
  elementScroll,
  observeElementOffset,
  observeElementRect,
} from "./vendor/virtual-core/index.js";
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
  count,
  h,
  useAnswer,
} from "./parts.js";
import { Stream } from "./stream.js";

const { React, ChakraUI, ReactRouterDOM } = globalThis;

const ROW_PX = 52;
const COLUMNS = [
  ["stream", "minmax(130px, 1.2fr)"],
  ["state", "minmax(150px, 1.7fr)"],
  ["last good batch", "165px"],
  ["rows", "110px"],
  ["schedule", "minmax(90px, 0.6fr)"],
  ["revision", "95px"],
  ["last change", "minmax(150px, 1.4fr)"],
  ["", "95px"],
];
const MIN_WIDTH = "1080px";
const GRID = {
  display: "grid",
  gridTemplateColumns: COLUMNS.map(([, width]) => width).join(" "),
  columnGap: "12px",
  minWidth: MIN_WIDTH,
  padding: "0 12px",
};

/** Return a virtualizer of the rows that are seen: of 10,000 rows the page holds some thirty. */
function useVirtualRows(rows, scroller) {
  const [, redraw] = React.useReducer((number) => number + 1, 0);
  const options = {
    count: rows.length,
    estimateSize: () => ROW_PX,
    getItemKey: (index) => rows[index].dag_id,
    getScrollElement: () => scroller.current,
    observeElementOffset,
    observeElementRect,
    onChange: () => redraw(),
    overscan: 10,
    scrollToFn: elementScroll,
  };
  const [virtualizer] = React.useState(() => new Virtualizer(options));
  virtualizer.setOptions(options);
  React.useLayoutEffect(() => virtualizer._didMount(), [virtualizer]);
  React.useLayoutEffect(() => virtualizer._willUpdate());
  return virtualizer;
}

// Rows come and go at each step of the scrollbar. Plain elements are drawn several times as fast as
// Chakra's, and take the colours of Airflow's theme from its variables.
const colour = (name) => `var(--chakra-colors-${name})`;
const ROW = {
  ...GRID,
  alignItems: "center",
  borderBottom: `1px solid ${colour("border")}`,
  fontSize: "14px",
  height: `${ROW_PX}px`,
  left: 0,
  position: "absolute",
  right: 0,
  top: 0,
};
const CELL = { minWidth: 0 };
const LINE = { overflow: "hidden", textOverflow: "ellipsis", whiteSpace: "nowrap" };
const SMALL = { ...LINE, color: colour("fg-muted"), fontSize: "12px" };
const MONO = { ...LINE, fontFamily: "monospace", fontSize: "12px" };

const cell = (...children) => h("div", { role: "cell", style: CELL }, ...children);
const line = (text, style = LINE) => text && h("div", { style, title: text }, text);
const small = (text) => line(text, SMALL);

/** Write which batch brought the rows, or what has become of a newer one. */
const batchOf = ({ good, newest }) =>
  newest ? `now ${newest.number} ${newest.status}` : good && `batch ${good.number}`;

const Row = React.memo(({ stream, now, index, start }) => {
  const { good, change, dag_id: dagId } = stream;
  return h(
    "div",
    {
      "aria-rowindex": index + 1,
      role: "row",
      style: { ...ROW, transform: `translateY(${start}px)` },
    },
    cell(
      h(
        "div",
        { style: LINE, title: dagId },
        stream.has_dag ? h(Link, { to: `/dags/${dagId}` }, stream.key) : stream.key,
      ),
      stream.store !== stream.key && small(stream.store),
    ),
    cell(h(StateBadge, { state: stream.state, colour: stream.colour }), small(stream.reason)),
    cell(good && line(asAge(good.ended, now)), good && small(asTime(good.ended))),
    cell(good && line(good.rows), small(batchOf(stream))),
    cell(line(stream.schedule)),
    cell(line(stream.revision, MONO)),
    cell(
      change && line(`${change.action} by ${change.who}`),
      change && small(`${asTime(change.at)}, ${change.how}`),
    ),
    cell(
      stream.has_dag && h(Link, { to: `/dags/${dagId}/runs`, mr: 3 }, "Runs"),
      // Not the tab of its DAG: who disabled a stream is asked when it has none.
      h(Link, { to: `?stream=${encodeURIComponent(dagId)}` }, "History"),
    ),
  );
});

const Head = () =>
  h(
    Box,
    {
      role: "row",
      position: "sticky",
      top: 0,
      zIndex: 1,
      bg: "bg.muted",
      borderBottomWidth: 1,
      color: "fg.muted",
      fontSize: "xs",
      fontWeight: "semibold",
      textTransform: "uppercase",
      style: { ...GRID, paddingBlock: "8px" },
    },
    COLUMNS.map(([name]) => h("div", { key: name, role: "columnheader", style: LINE }, name)),
  );

function Rows({ streams, now }) {
  const scroller = React.useRef(null);
  const virtualizer = useVirtualRows(streams, scroller);
  const height = `${virtualizer.getTotalSize()}px`;
  return h(
    Box,
    {
      ref: scroller,
      role: "table",
      "aria-label": "Streams",
      "aria-rowcount": streams.length,
      flex: 1,
      minH: "240px",
      borderWidth: 1,
      rounded: "md",
      overflow: "auto",
    },
    h(Head),
    h(
      "div",
      { role: "rowgroup", style: { height, minWidth: MIN_WIDTH, position: "relative" } },
      virtualizer
        .getVirtualItems()
        .map(({ index, key, start }) => h(Row, { key, index, now, start, stream: streams[index] })),
    ),
  );
}

/** One button a state, with how many streams are in it; a click shows these alone, or all again. */
const Counts = ({ states, streams, chosen, choose }) => {
  const numbers = Map.groupBy(streams, (stream) => stream.state);
  return h(
    HStack,
    { wrap: "wrap", gap: 2 },
    states
      .filter((name) => numbers.has(name) || name === chosen)
      .map((name) =>
        h(
          ChakraUI.Button,
          {
            key: name,
            size: "xs",
            colorPalette: numbers.get(name)?.[0].colour,
            variant: name === chosen ? "solid" : "subtle",
            "aria-pressed": name === chosen,
            onClick: () => choose(name === chosen ? "" : name),
          },
          `${(numbers.get(name) ?? []).length.toLocaleString("en")} ${name}`,
        ),
      ),
  );
};

const searched = (stream) =>
  [stream.key, stream.store, stream.state, stream.reason, stream.change?.who, stream.revision]
    .join("\n")
    .toLowerCase();

function Select({ value, choose, options, label }) {
  return h(
    ChakraUI.NativeSelect.Root,
    { size: "sm", width: "220px" },
    h(
      ChakraUI.NativeSelect.Field,
      { value, "aria-label": label, onChange: (event) => choose(event.target.value) },
      options.map(([name, text]) => h("option", { key: name, value: name }, text)),
    ),
    h(ChakraUI.NativeSelect.Indicator),
  );
}

function List({ answer }) {
  // In the address, so that a colleague can be sent what is seen.
  const [params, setParams] = ReactRouterDOM.useSearchParams();
  const of = (name) => params.get(name) ?? "";
  const set = (name) => (value) =>
    setParams(
      (before) => {
        const after = new URLSearchParams(before);
        value ? after.set(name, value) : after.delete(name);
        return after;
      },
      { replace: true },
    );
  const { platforms, states } = answer;
  const several = platforms.length > 1;
  const chosen = platforms.filter(({ platform }) => !of("platform") || platform === of("platform"));
  const words = of("q").toLowerCase();
  const found = React.useMemo(
    () =>
      chosen.flatMap(({ streams }) => streams).filter((stream) => searched(stream).includes(words)),
    [answer, of("platform"), words],
  );
  const shown = of("state") ? found.filter(({ state }) => state === of("state")) : found;
  const everything = platforms.map(({ platform }) => [platform, platform]);
  return [
    ...chosen.map((platform) => h(Problems, { key: platform.platform, platform })),
    h(
      HStack,
      { key: "filters", gap: 4, wrap: "wrap" },
      several &&
        h(Select, {
          label: "Platform",
          value: of("platform"),
          choose: set("platform"),
          options: [["", "All platforms"], ...everything],
        }),
      h(ChakraUI.Input, {
        size: "sm",
        width: "300px",
        type: "search",
        placeholder: "Stream, store, reason or who changed it",
        "aria-label": "Search streams",
        value: of("q"),
        onChange: (event) => set("q")(event.target.value),
      }),
      h(Counts, { states, streams: found, chosen: of("state"), choose: set("state") }),
    ),
    h(
      Text,
      { key: "shown", color: "fg.muted", fontSize: "sm" },
      `${count(shown.length, "stream")}${several ? ` of ${count(chosen.length, "platform")}` : ` of ${platforms[0].platform}`}, as of ${asTime(answer.at)}`,
    ),
    h(Rows, { key: "rows", streams: shown, now: answer.at }),
  ];
}

function Streams() {
  const [params] = ReactRouterDOM.useSearchParams();
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
  const { answer, error } = useAnswer("streams");
  return h(
    Flex,
    { direction: "column", gap: 3, height: "100%", minH: 0, p: 2 },
    h(Heading, { size: "lg" }, "Streams"),
    error && h(Banner, { title: "The streams cannot be shown" }, error.message),
    answer?.problems.map((problem) =>
      h(Banner, { key: problem, title: "A factory file has no DAGs" }, problem),
    ),
    !answer && !error && h(ChakraUI.Spinner, { "aria-label": "Loading" }),
    answer &&
      answer.platforms.length === 0 &&
      h(Text, null, "There is no stream here that you may read."),
    answer && answer.platforms.length > 0 && h(List, { answer }),
  );
}

Object.assign(globalThis, { Streams, Stream });
