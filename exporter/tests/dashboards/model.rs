//! Dashboards as values, and their classic JSON (schema 39: Grafana 10.4; later ones migrate it).

use serde_json::{Value, json};

/// Width of Grafana's grid.
const GRID: u32 = 24;
/// Pixels of a table's columns that are wider, or narrower, than an equal part.
const WIDTHS: &[(&str, u32)] = &[
    ("vip", 135),
    ("rip", 135),
    ("instance", 135),
    ("alertname", 220),
    ("severity", 90),
    ("port", 70),
    ("rport", 70),
    ("proto", 80),
];
const DATE_WIDTH: u32 = 165;

/// A dashboard.
pub(crate) struct Board {
    pub(crate) uid: &'static str,
    pub(crate) title: &'static str,
    pub(crate) description: &'static str,
    /// Names of further variables, each a label of `uvs_service_info`.
    pub(crate) variables: &'static [&'static str],
    pub(crate) rows: Vec<(&'static str, Vec<Panel>)>,
}

/// How a panel is drawn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Lines,
    Stacked,
    Stat,
    Bars,
    Table,
}

/// A panel; `$$` in an expression stands for the matchers of job and instance.
pub(crate) struct Panel {
    kind: Kind,
    title: &'static str,
    description: &'static str,
    unit: &'static str,
    width: u32,
    height: u32,
    targets: Vec<(String, &'static str)>,
    thresholds: Vec<(Option<f64>, &'static str)>,
    minimum: Option<f64>,
    maximum: Option<f64>,
    mappings: Words,
    colours: Vec<(&'static str, &'static str)>,
    columns: Vec<Column>,
    /// What it says where no series exists.
    none: Option<&'static str>,
    /// A table's column that it is sorted by at first.
    sorted: Option<&'static str>,
    /// Legends of a kind whose axis is on the right, with a scale of its own.
    right: Option<&'static str>,
    /// Legends of a kind that is dashed.
    dashed: Option<&'static str>,
    labels: &'static [(&'static str, &'static str)],
    /// Words and colours of a table's labels, by label.
    marked: Vec<(&'static str, Words)>,
    links: Vec<Link>,
}

/// A value, what is shown for it, and its colour.
type Words = Vec<(&'static str, &'static str, &'static str)>;

/// A column of numbers.
struct Column {
    title: &'static str,
    unit: &'static str,
    words: Words,
    /// What it says where it has no value.
    blank: Option<&'static str>,
}

/// What a table's label leads to.
struct Link {
    label: &'static str,
    title: &'static str,
    url: &'static str,
    /// What is shown instead of a value that is an address.
    text: Option<&'static str>,
}

/// A panel of a kind's usual size.
pub(crate) fn panel(
    kind: Kind,
    title: &'static str,
    unit: &'static str,
    description: &'static str,
) -> Panel {
    let (width, height) = match kind {
        Kind::Lines | Kind::Stacked => (12, 8),
        Kind::Stat => (4, 4),
        Kind::Bars => (12, 6),
        Kind::Table => (24, 9),
    };
    Panel {
        kind,
        title,
        description,
        unit,
        width,
        height,
        targets: Vec::new(),
        thresholds: vec![(None, "green")],
        minimum: Some(0.0),
        maximum: None,
        mappings: Vec::new(),
        colours: Vec::new(),
        columns: Vec::new(),
        none: None,
        sorted: None,
        right: None,
        dashed: None,
        labels: &[],
        marked: Vec::new(),
        links: Vec::new(),
    }
}

impl Panel {
    /// Adds a query with its legend.
    pub(crate) fn query(mut self, expr: &str, legend: &'static str) -> Self {
        let matchers = r#"job=~"$job",instance=~"$instance""#;
        self.targets.push((expr.replace("$$", matchers), legend));
        self
    }

    pub(crate) const fn width(mut self, width: u32) -> Self {
        self.width = width;
        self
    }

    /// Red from this value on.
    pub(crate) fn red_from(mut self, value: f64) -> Self {
        self.thresholds.push((Some(value), "red"));
        self
    }

    /// Orange from this value on.
    pub(crate) fn orange_from(mut self, value: f64) -> Self {
        self.thresholds.push((Some(value), "orange"));
        self
    }

    /// Red below this value.
    pub(crate) fn red_below(mut self, value: f64) -> Self {
        self.thresholds = vec![(None, "red"), (Some(value), "green")];
        self
    }

    /// Values below 0 are shown, too.
    pub(crate) const fn signed(mut self) -> Self {
        self.minimum = None;
        self
    }

    /// Draws a series, by its legend, in a colour of its own.
    pub(crate) fn colour(mut self, name: &'static str, colour: &'static str) -> Self {
        self.colours.push((name, colour));
        self
    }

    pub(crate) const fn height(mut self, height: u32) -> Self {
        self.height = height;
        self
    }

    /// A table's labels in order, each with its title.
    pub(crate) const fn labels(mut self, labels: &'static [(&'static str, &'static str)]) -> Self {
        self.labels = labels;
        self
    }

    pub(crate) const fn maximum(mut self, value: f64) -> Self {
        self.maximum = Some(value);
        self
    }

    /// Shows a value as a word in a colour; in a table, those of the last column so far.
    pub(crate) fn word(
        mut self,
        value: &'static str,
        text: &'static str,
        colour: &'static str,
    ) -> Self {
        let words = match self.columns.last_mut() {
            Some(column) => &mut column.words,
            None => &mut self.mappings,
        };
        words.push((value, text, colour));
        self
    }

    /// What a table's last column so far says where it has no value.
    pub(crate) fn blank(mut self, text: &'static str) -> Self {
        self.columns.last_mut().expect("a column").blank = Some(text);
        self
    }

    /// What it says instead of "No data" where no series exists.
    pub(crate) const fn none(mut self, text: &'static str) -> Self {
        self.none = Some(text);
        self
    }

    /// Sorts a table by the column of this title.
    pub(crate) const fn sorted(mut self, title: &'static str) -> Self {
        self.sorted = Some(title);
        self
    }

    /// Shows values of a table's label in colours, each as it is.
    pub(crate) fn marked(
        mut self,
        label: &'static str,
        colours: &[(&'static str, &'static str)],
    ) -> Self {
        let words = colours
            .iter()
            .map(|(value, colour)| (*value, *value, *colour));
        self.marked.push((label, words.collect()));
        self
    }

    /// Where a table's label leads to.
    pub(crate) fn link(
        mut self,
        label: &'static str,
        title: &'static str,
        url: &'static str,
    ) -> Self {
        self.links.push(Link {
            label,
            title,
            url,
            text: None,
        });
        self
    }

    /// A table's label whose values are addresses: they are what it leads to, and it shows `text` for them.
    pub(crate) fn addresses(
        mut self,
        label: &'static str,
        title: &'static str,
        text: &'static str,
    ) -> Self {
        self.links.push(Link {
            label,
            title,
            url: "${__value.raw}",
            text: Some(text),
        });
        self
    }

    /// Series whose legends match are dashed.
    pub(crate) const fn dashed(mut self, legends: &'static str) -> Self {
        self.dashed = Some(legends);
        self
    }

    /// They have an axis on the right, too, with a scale of its own.
    pub(crate) const fn right(mut self, legends: &'static str) -> Self {
        self.right = Some(legends);
        self.dashed(legends)
    }

    /// A table's query, which becomes a column.
    pub(crate) fn column(mut self, expr: &str, title: &'static str, unit: &'static str) -> Self {
        self.columns.push(Column {
            title,
            unit,
            words: Vec::new(),
            blank: None,
        });
        self.query(expr, "")
    }
}

impl Board {
    pub(crate) fn json(&self) -> Value {
        let mut panels = Vec::new();
        let (mut id, mut y) = (0, 0);
        let mut next = || {
            id += 1;
            id
        };
        for (title, row) in &self.rows {
            panels.push(json!({
                "id": next(), "type": "row", "title": title, "collapsed": false, "panels": [],
                "gridPos": {"x": 0, "y": y, "w": GRID, "h": 1},
            }));
            y += 1;
            let (mut x, mut height) = (0, 0);
            for panel in row {
                if x + panel.width > GRID {
                    (x, y, height) = (0, y + height, 0);
                }
                panels.push(panel.json(next(), x, y));
                x += panel.width;
                height = height.max(panel.height);
            }
            y += height;
        }
        json!({
            "id": null, "uid": self.uid, "title": self.title, "description": self.description,
            "tags": ["uvs", "load-balancer"], "editable": false, "graphTooltip": 1,
            "timezone": "browser", "refresh": "10s", "schemaVersion": 39, "version": 1,
            "time": {"from": "now-1h", "to": "now"}, "timepicker": {},
            "annotations": {"list": marks()},
            "links": [{
                "type": "dashboards", "tags": ["uvs"], "title": "UVS", "asDropdown": true,
                "includeVars": true, "keepTime": true, "targetBlank": false, "icon": "external link",
            }],
            "templating": {"list": self.variables()},
            "panels": panels,
        })
    }

    fn variables(&self) -> Vec<Value> {
        let mut list = vec![json!({
            "name": "datasource", "label": "Data source", "type": "datasource",
            "query": "prometheus", "hide": 0, "includeAll": false, "multi": false,
        })];
        let mut matchers = String::new();
        for name in ["job", "instance"].iter().chain(self.variables) {
            let metric = if matches!(*name, "job" | "instance") {
                "uvs_build_info"
            } else {
                "uvs_service_info"
            };
            let query = format!("label_values({metric}{{{matchers}}}, {name})");
            list.push(json!({
                "name": name, "label": name, "type": "query",
                "datasource": {"type": "prometheus", "uid": "${datasource}"},
                "query": {"query": query, "refId": "values"}, "definition": query,
                "refresh": 2, "sort": 1, "multi": true, "includeAll": true, "allValue": ".+",
                "current": {"selected": true, "text": ["All"], "value": ["$__all"]}, "hide": 0,
            }));
            let comma = if matchers.is_empty() { "" } else { "," };
            matchers += &format!("{comma}{name}=~\"${name}\"");
        }
        list
    }
}

/// What has happened, as marks on every panel. Their ranges are fixed, as an annotation has no `$__rate_interval`.
fn marks() -> Vec<Value> {
    let matchers = r#"job=~"$job",instance=~"$instance""#;
    let mark = |name: &str, colour: &str, expr: &str, text: &str| {
        json!({
            "name": name, "enable": true, "hide": false, "iconColor": colour,
            "datasource": {"type": "prometheus", "uid": "${datasource}"},
            "expr": expr.replace("$$", matchers), "step": "15s", "titleFormat": name, "textFormat": text,
        })
    };
    vec![
        mark(
            "Reloads",
            "blue",
            "sum by (instance) (changes(uvs_config_last_reload_success_timestamp_seconds{$$}[1m])) > 0",
            "{{instance}}: the configuration was loaded again",
        ),
        mark(
            "Drains",
            "orange",
            "sum by (instance, vip, port, rip) ((uvs_backend_weight{$$} == bool 0) * changes(uvs_backend_weight{$$}[1m])) > 0",
            "{{instance}}: {{rip}} of {{vip}}:{{port}} is drained",
        ),
    ]
}

impl Panel {
    fn json(&self, id: u32, x: u32, y: u32) -> Value {
        let kind = match self.kind {
            Kind::Lines | Kind::Stacked => "timeseries",
            Kind::Stat => "stat",
            Kind::Bars => "bargauge",
            Kind::Table => "table",
        };
        let mut panel = json!({
            "id": id, "type": kind, "title": self.title, "description": self.description,
            "datasource": {"type": "prometheus", "uid": "${datasource}"},
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "fieldConfig": {"defaults": self.defaults(), "overrides": self.overrides()},
            "options": self.options(),
            "targets": self.json_targets(),
        });
        if self.kind == Kind::Table {
            panel["transformations"] = json!([
                {"id": "merge", "options": {}},
                {"id": "organize", "options": {
                    "excludeByName": {"Time": true},
                    "indexByName": self.order(), "renameByName": self.titles(),
                }},
            ]);
        }
        panel
    }

    /// The labels' places, and after them the columns'.
    fn order(&self) -> Value {
        let labels = self.labels.iter().map(|(label, _)| (*label).to_owned());
        let order = labels.chain(self.values()).zip(0..);
        order.map(|(name, i)| (name, Value::from(i))).collect()
    }

    /// The columns as Grafana names them, which numbers them where there are several.
    fn values(&self) -> Vec<String> {
        let one = self.columns.len() == 1;
        let ids = ('A'..).take(self.columns.len());
        ids.map(|id| {
            if one {
                "Value".to_owned()
            } else {
                format!("Value #{id}")
            }
        })
        .collect()
    }

    fn titles(&self) -> Value {
        let labels = self.labels.iter();
        labels
            .map(|(label, title)| ((*label).to_owned(), Value::from(*title)))
            .collect()
    }

    fn json_targets(&self) -> Vec<Value> {
        let instant = matches!(self.kind, Kind::Table | Kind::Stat | Kind::Bars);
        let format = if self.kind == Kind::Table {
            "table"
        } else {
            "time_series"
        };
        let targets = self.targets.iter().zip('A'..);
        targets
            .map(|((expr, legend), id)| {
                json!({
                    "refId": id.to_string(), "expr": expr, "legendFormat": legend,
                    "datasource": {"type": "prometheus", "uid": "${datasource}"},
                    "instant": instant, "range": !instant, "format": format, "editorMode": "code",
                })
            })
            .collect()
    }

    fn defaults(&self) -> Value {
        let steps = self.thresholds.iter();
        let steps: Vec<Value> = steps
            .map(|(value, colour)| json!({"value": value, "color": colour}))
            .collect();
        let mut defaults = json!({
            "unit": self.unit, "min": self.minimum, "decimals": null,
            "thresholds": {"mode": "absolute", "steps": steps},
            "mappings": json_mappings(&self.mappings),
        });
        if let Some(none) = self.none {
            defaults["noValue"] = none.into();
        }
        if let Some(maximum) = self.maximum {
            defaults["max"] = maximum.into();
        }
        match self.kind {
            Kind::Lines | Kind::Stacked => {
                let stacked = self.kind == Kind::Stacked;
                defaults["color"] = json!({"mode": "palette-classic"});
                defaults["custom"] = json!({
                    "drawStyle": "line", "lineWidth": if stacked { 0 } else { 1 }, "showPoints": "never", "axisSoftMax": soft_maximum(self.unit),
                    "fillOpacity": if stacked { 60 } else { 8 },
                    "stacking": {"mode": if stacked { "normal" } else { "none" }, "group": "A"},
                });
            }
            Kind::Stat | Kind::Bars => defaults["color"] = json!({"mode": "thresholds"}),
            Kind::Table => {
                defaults["color"] = json!({"mode": "thresholds"});
                defaults["custom"] = json!({"align": "auto", "filterable": true, "minWidth": 60});
            }
        }
        defaults
    }

    /// Columns of a table have their own titles, units and words, and some series their own colours.
    fn overrides(&self) -> Vec<Value> {
        if self.kind == Kind::Table {
            let columns = self.columns.iter().zip(self.values());
            let columns = columns.map(|(column, name)| by_name(&name, column.properties()));
            let labels = self.labels.iter();
            let labels = labels.map(|(label, _)| by_name(label, self.label_properties(label)));
            let labels = labels.filter(|label| label["properties"] != json!([]));
            return columns.chain(labels).collect();
        }
        let series = self.colours.iter().map(|(name, colour)| {
            let fixed = json!({"mode": "fixed", "fixedColor": colour});
            by_name(name, vec![json!({"id": "color", "value": fixed})])
        });
        let by_legend = |legends: &str, id: &str, value: Value| json!({"matcher": {"id": "byRegexp", "options": legends}, "properties": [{"id": id, "value": value}]});
        let dash = json!({"fill": "dash", "dash": [4, 4]});
        let dashed = self
            .dashed
            .map(|legends| by_legend(legends, "custom.lineStyle", dash));
        let right = self.right;
        let right = right.map(|legends| by_legend(legends, "custom.axisPlacement", "right".into()));
        series.chain(dashed).chain(right).collect()
    }

    fn label_properties(&self, label: &str) -> Vec<Value> {
        let mut properties = Vec::new();
        if self.none.is_some() {
            // It is of the whole table, and not what an empty cell says.
            properties.push(json!({"id": "noValue", "value": ""}));
        }
        let width = WIDTHS.iter().find(|(l, _)| *l == label);
        if let Some((_, width)) = width {
            properties.push(json!({"id": "custom.width", "value": width}));
        }
        let marked = self.marked.iter().filter(|(l, _)| *l == label);
        for (_, words) in marked {
            properties.extend(worded(words));
        }
        for link in self.links.iter().filter(|link| link.label == label) {
            if let Some(text) = link.text {
                let result = json!({"text": text, "index": 0});
                let options = json!({"pattern": "^https?://.+", "result": result});
                let mapping = json!([{"type": "regex", "options": options}]);
                properties.push(json!({"id": "mappings", "value": mapping}));
            }
            let leads =
                json!([{"title": link.title, "url": link.url, "targetBlank": link.text.is_some()}]);
            properties.push(json!({"id": "links", "value": leads}));
        }
        properties
    }

    fn options(&self) -> Value {
        match self.kind {
            Kind::Lines | Kind::Stacked => json!({
                "legend": self.legend(),
                "tooltip": {"mode": "multi", "sort": "desc"},
            }),
            Kind::Stat => json!({
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
                "colorMode": "value", "graphMode": "none", "textMode": "auto", "justifyMode": "auto", "orientation": "auto",
            }),
            Kind::Bars => json!({
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
                "displayMode": "basic", "orientation": "horizontal", "showUnfilled": true, "valueMode": "color",
                "namePlacement": "auto", "sizing": "auto",
            }),
            Kind::Table => {
                let sorted = self.sorted.iter();
                let sorted: Vec<_> = sorted
                    .map(|title| json!({"displayName": title, "desc": false}))
                    .collect();
                json!({"showHeader": true, "cellHeight": "sm", "footer": {"show": false}, "sortBy": sorted})
            }
        }
    }

    /// Names that come from the configuration are many: a table beside the lines. A few fixed ones go below.
    fn legend(&self) -> Value {
        let configured = ["{{instance}}", "{{rip}}", "{{vip}}", "{{interface}}"];
        let many = |(_, legend): &(String, &str)| configured.iter().any(|c| legend.contains(c));
        if self.width >= GRID / 2 && self.targets.iter().any(many) {
            json!({"displayMode": "table", "placement": "right", "calcs": ["lastNotNull", "max"], "showLegend": true})
        } else {
            json!({"displayMode": "list", "placement": "bottom", "calcs": [], "showLegend": true})
        }
    }
}

impl Column {
    fn properties(&self) -> Vec<Value> {
        let mut properties = vec![
            json!({"id": "displayName", "value": self.title}),
            json!({"id": "unit", "value": self.unit}),
        ];
        if self.unit.starts_with("date") {
            properties.push(json!({"id": "custom.width", "value": DATE_WIDTH}));
        }
        properties.extend(worded(&self.words));
        if let Some(text) = self.blank {
            let none =
                json!({"match": "null+nan", "result": {"text": text, "index": self.words.len()}});
            let special = json!({"type": "special", "options": none});
            match properties.iter_mut().find(|p| p["id"] == "mappings") {
                Some(words) => words["value"].as_array_mut().expect("a list").push(special),
                None => properties.push(json!({"id": "mappings", "value": [special]})),
            }
        }
        properties
    }
}

fn by_name(name: &str, properties: Vec<Value>) -> Value {
    json!({"matcher": {"id": "byName", "options": name}, "properties": properties})
}

/// A field's words, if any, in their colours.
fn worded(words: &Words) -> Vec<Value> {
    if words.is_empty() {
        return Vec::new();
    }
    vec![
        json!({"id": "mappings", "value": json_mappings(words)}),
        json!({"id": "custom.cellOptions", "value": {"type": "color-text"}}),
    ]
}

fn json_mappings(words: &Words) -> Vec<Value> {
    let options = words.iter().enumerate().map(|(i, (value, text, colour))| {
        (
            (*value).to_owned(),
            json!({"text": text, "color": colour, "index": i}),
        )
    });
    let options: serde_json::Map<String, Value> = options.collect();
    if options.is_empty() {
        return Vec::new();
    }
    vec![json!({"type": "value", "options": options})]
}

/// Where the axis ends at least, so that an idle panel does not end at 100; for parts of 1 it may.
fn soft_maximum(unit: &str) -> Value {
    match unit {
        "percentunit" | "s" | "bytes" => Value::Null,
        _ => 1.into(),
    }
}
