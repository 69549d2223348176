//! Dashboards as values, and their classic JSON (schema 39: Grafana 10.4; later ones migrate it).

use serde_json::{Value, json};

/// Width of Grafana's grid.
const GRID: u32 = 24;

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
    Gauge,
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
    maximum: Option<f64>,
    mappings: Vec<(&'static str, &'static str, &'static str)>,
    columns: Vec<(&'static str, &'static str)>,
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
        Kind::Stat | Kind::Gauge => (4, 5),
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
        maximum: None,
        mappings: Vec::new(),
        columns: Vec::new(),
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

    /// Red below this value.
    pub(crate) fn red_below(mut self, value: f64) -> Self {
        self.thresholds = vec![(None, "red"), (Some(value), "green")];
        self
    }

    pub(crate) const fn maximum(mut self, value: f64) -> Self {
        self.maximum = Some(value);
        self
    }

    /// Shows a value as a word in a colour.
    pub(crate) fn word(
        mut self,
        value: &'static str,
        text: &'static str,
        colour: &'static str,
    ) -> Self {
        self.mappings.push((value, text, colour));
        self
    }

    /// A table's query, which becomes a column.
    pub(crate) fn column(mut self, expr: &str, title: &'static str, unit: &'static str) -> Self {
        self.columns.push((title, unit));
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
            "annotations": {"list": []},
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

impl Panel {
    fn json(&self, id: u32, x: u32, y: u32) -> Value {
        let kind = match self.kind {
            Kind::Lines | Kind::Stacked => "timeseries",
            Kind::Stat => "stat",
            Kind::Gauge => "gauge",
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
                    "indexByName": {}, "renameByName": {},
                }},
            ]);
        }
        panel
    }

    fn json_targets(&self) -> Vec<Value> {
        let instant = matches!(self.kind, Kind::Table | Kind::Stat | Kind::Gauge);
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
            "unit": self.unit, "min": 0, "decimals": null,
            "thresholds": {"mode": "absolute", "steps": steps},
            "mappings": self.json_mappings(),
        });
        if let Some(maximum) = self.maximum {
            defaults["max"] = maximum.into();
        }
        match self.kind {
            Kind::Lines | Kind::Stacked => {
                let stacked = self.kind == Kind::Stacked;
                defaults["color"] = json!({"mode": "palette-classic"});
                defaults["custom"] = json!({
                    "drawStyle": "line", "lineWidth": 1, "showPoints": "never",
                    "fillOpacity": if stacked { 30 } else { 8 },
                    "stacking": {"mode": if stacked { "normal" } else { "none" }, "group": "A"},
                });
            }
            Kind::Stat | Kind::Gauge => defaults["color"] = json!({"mode": "thresholds"}),
            Kind::Table => {
                defaults["color"] = json!({"mode": "thresholds"});
                defaults["custom"] = json!({"align": "auto", "filterable": true});
            }
        }
        defaults
    }

    fn json_mappings(&self) -> Vec<Value> {
        let options = self
            .mappings
            .iter()
            .enumerate()
            .map(|(i, (value, text, colour))| {
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

    /// Columns of a table have their own titles and units.
    fn overrides(&self) -> Vec<Value> {
        let columns = self.columns.iter().zip('A'..);
        columns
            .map(|((title, unit), id)| {
                json!({
                    "matcher": {"id": "byName", "options": format!("Value #{id}")},
                    "properties": [
                        {"id": "displayName", "value": title},
                        {"id": "unit", "value": unit},
                    ],
                })
            })
            .collect()
    }

    fn options(&self) -> Value {
        match self.kind {
            Kind::Lines | Kind::Stacked => json!({
                "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"], "showLegend": true},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }),
            Kind::Stat => json!({
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
                "colorMode": "value", "graphMode": "none", "textMode": "auto", "justifyMode": "auto", "orientation": "auto",
            }),
            Kind::Gauge => json!({
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
                "showThresholdLabels": false, "showThresholdMarkers": true, "orientation": "auto",
            }),
            Kind::Table => {
                json!({"showHeader": true, "cellHeight": "sm", "footer": {"show": false}})
            }
        }
    }
}
