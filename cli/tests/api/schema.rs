//! As much of JSON Schema as docs/api.schema.json has; a word of it that is not known here fails, so that none is passed over.

use serde_json::Value;

/// The schema of the API.
pub(crate) struct Schema(Value);

impl Schema {
    pub(crate) fn read() -> Self {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/api.schema.json");
        let text = std::fs::read_to_string(file).expect("the schema");
        Self(serde_json::from_str(&text).expect("JSON"))
    }

    /// What is wrong with a value that is to be this.
    pub(crate) fn check(&self, definition: &str, value: &Value) -> Result<(), String> {
        self.fits(
            &serde_json::json!({"$ref": format!("#/$defs/{definition}")}),
            value,
            "",
        )
    }

    fn fits(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        let rules = schema.as_object().expect("a schema is an object");
        for (word, rule) in rules {
            self.keeps(word, (rule, schema), value, at).map_err(|why| {
                if why.starts_with('/') {
                    why
                } else {
                    format!("{at}/: {why}")
                }
            })?;
        }
        Ok(())
    }

    fn keeps(
        &self,
        word: &str,
        (rule, schema): (&Value, &Value),
        value: &Value,
        at: &str,
    ) -> Result<(), String> {
        let must = |holds: bool, what: &str| match holds {
            true => Ok(()),
            false => Err(format!("{at}: {value} {what}")),
        };
        match word {
            "$ref" => {
                let place = rule.as_str().and_then(|r| r.strip_prefix('#'));
                let target = self.0.pointer(place.expect("a reference within the file"));
                self.fits(target.expect("it is there"), value, at)
            }
            "type" => {
                let kinds = rule
                    .as_array()
                    .cloned()
                    .unwrap_or_else(|| vec![rule.clone()]);
                let is = |kind: &Value| is_a(kind.as_str().expect("a word"), value);
                must(kinds.iter().any(is), &format!("is not {rule}"))
            }
            "const" => must(value == rule, &format!("is not {rule}")),
            "enum" => must(
                rule.as_array().expect("a list").contains(value),
                &format!("is none of {rule}"),
            ),
            "minimum" => must(
                value.as_i64() >= rule.as_i64()
                    || value.is_null()
                    || value.as_u64() >= rule.as_u64(),
                "is too small",
            ),
            "maximum" => must(
                value.as_u64() <= rule.as_u64() || value.is_null(),
                "is too great",
            ),
            "minItems" => must(length(value) >= rule.as_u64(), "is too short"),
            "maxItems" => must(length(value) <= rule.as_u64(), "is too long"),
            "required" => {
                let has = |name: &Value| value.get(name.as_str().expect("a name")).is_some();
                let lacks = rule
                    .as_array()
                    .expect("a list")
                    .iter()
                    .find(|name| !has(name));
                must(
                    !value.is_object() || lacks.is_none(),
                    &format!("lacks {lacks:?}"),
                )
            }
            "additionalProperties" => {
                assert_eq!(rule, &Value::Bool(false));
                let known = schema["properties"].as_object().expect("properties");
                let mut names = value.as_object().into_iter().flat_map(|o| o.keys());
                let other = names.find(|name| !known.contains_key(*name));
                must(other.is_none(), &format!("has {other:?}"))
            }
            "properties" | "items" | "prefixItems" => self.has_parts(word, rule, value, at),
            "oneOf" => self.is_one_of(rule, value, at),
            "$schema" | "title" | "description" | "$defs" => Ok(()),
            other => panic!("{other}: not a word that this knows"),
        }
    }

    fn has_parts(&self, word: &str, rule: &Value, value: &Value, at: &str) -> Result<(), String> {
        match word {
            "properties" => {
                let known = rule.as_object().expect("an object");
                let there = known
                    .iter()
                    .filter_map(|(name, of)| Some((name, of, value.get(name)?)));
                let mut there = there;
                there
                    .try_for_each(|(name, of, value)| self.fits(of, value, &format!("{at}/{name}")))
            }
            "items" => {
                let mut items = value.as_array().into_iter().flatten().enumerate();
                items.try_for_each(|(n, item)| self.fits(rule, item, &format!("{at}/{n}")))
            }
            "prefixItems" => {
                let of = rule.as_array().expect("a list").iter();
                let mut pairs = of.zip(value.as_array().into_iter().flatten()).enumerate();
                pairs.try_for_each(|(n, (of, item))| self.fits(of, item, &format!("{at}/{n}")))
            }
            other => panic!("{other}: not about parts"),
        }
    }

    fn is_one_of(&self, rule: &Value, value: &Value, at: &str) -> Result<(), String> {
        let all = rule.as_array().expect("a list").iter();
        let tried: Vec<_> = all.map(|one| self.fits(one, value, at)).collect();
        match tried.iter().filter(|tried| tried.is_ok()).count() {
            1 => Ok(()),
            0 => {
                // What came furthest says most.
                let whys = tried.into_iter().filter_map(Result::err);
                let why = whys.max_by_key(|why| why.split(':').next().map(str::len));
                Err(why.unwrap_or_default())
            }
            n => Err(format!("{at}: {value} is {n} of them")),
        }
    }
}

fn is_a(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("{other}: not a type that this knows"),
    }
}

fn length(value: &Value) -> Option<u64> {
    let length = value.as_array().map(Vec::len);
    length.and_then(|length| u64::try_from(length).ok())
}
