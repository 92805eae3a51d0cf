//! What `packaging` and `docs/deployment` hand out is what pyapm takes: configurations by its own check, manifests by a real parser,
//! queries by Prometheus' own, and every metric and label by the list of those that there are.

use harness::{place, pyapm};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

fn read(path: &str) -> String {
    std::fs::read_to_string(place::root().join(path)).unwrap_or_else(|error| panic!("`{path}`: {error}"))
}

/// All documents of a YAML file.
fn yaml(text: &str) -> Vec<Value> {
    let documents = serde_norway::Deserializer::from_str(text);
    documents
        .map(|one| serde::Deserialize::deserialize(one).unwrap_or_else(|error| panic!("{error}\n{text}")))
        .collect()
}

fn pages() -> Vec<(String, String)> {
    let folder = place::root().join("docs/deployment");
    let mut pages: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|page| page.unwrap().file_name().into_string().unwrap())
        .map(|name| (name.clone(), read(&format!("docs/deployment/{name}"))))
        .collect();
    pages.sort();
    pages
}

/// Blocks of a page in this language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let open = format!("```{language}\n");
    page.split(&open).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

fn check_configuration(of: &str, text: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pyapm.toml");
    std::fs::write(&file, text).unwrap();
    let output = pyapm::run(&["config", "check", file.to_str().unwrap()]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{of}: {said}");
}

/// That the command line is one: with files that are not there it fails, and not as wrong usage does.
fn check_arguments(of: &str, words: &[String]) {
    let words: Vec<String> = words
        .iter()
        .map(|word| if word.starts_with('/') { "/nonexistent/pyapm".to_owned() } else { word.clone() })
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let output = pyapm::run(&words).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{of}: {words:?}: {said}");
    assert!(said.contains("/nonexistent/pyapm"), "{of}: {words:?}: {said}");
}

fn words(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

fn names(list: &Value) -> BTreeSet<String> {
    list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

/// Of the unit, without that for the socket's group, which a container has no use for.
fn capabilities() -> BTreeSet<String> {
    let unit = read("packaging/pyapm.service");
    let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let all = line.split_whitespace().map(|name| name.trim_start_matches("CAP_").to_owned());
    all.filter(|name| name != "CHOWN").collect()
}

#[test]
fn every_configuration_of_the_pages_and_packages_is_valid() {
    let mut checked = 0;
    for (name, page) in pages() {
        for block in blocks(&page, "toml") {
            check_configuration(&name, &block);
            checked += 1;
        }
        for block in blocks(&page, "yaml") {
            assert!(yaml(&block).iter().all(Value::is_object), "{name}");
        }
    }
    for path in ["packaging/docker/pyapm.toml", "packaging/opentelemetry/pyapm.toml"] {
        check_configuration(path, &read(path));
        checked += 1;
    }
    assert!(checked >= 7, "{checked}");
}

#[test]
fn every_file_that_a_page_names_is_there() {
    let mut named = 0;
    for (name, page) in pages() {
        for word in page.split(|letter: char| letter.is_whitespace() || "`(),:".contains(letter)) {
            let is_file = ["packaging/", "tests/", "docs/"].iter().any(|start| word.starts_with(start));
            // What the page has the reader put there is not.
            if is_file && !word.ends_with(".deb") {
                assert!(place::root().join(word.trim_end_matches('.')).exists(), "{name}: `{word}`");
                named += 1;
            }
        }
    }
    assert!(named > 10, "{named}");
}

#[test]
fn the_manifest_fits_together() {
    let documents = yaml(&read("packaging/kubernetes/pyapm.yaml"));
    for one in &documents {
        assert!(one["apiVersion"].is_string() && one["metadata"]["name"].is_string(), "{one}");
    }
    let of =
        |kind: &str| documents.iter().find(|one| one["kind"] == kind).unwrap_or_else(|| panic!("{kind}"));
    let set = &of("DaemonSet")["spec"];
    assert_eq!(set["selector"]["matchLabels"], set["template"]["metadata"]["labels"]);
    let pod = &set["template"]["spec"];
    assert_eq!(pod["hostPID"], true);
    let container = &pod["containers"][0];
    assert_eq!(names(&pod["volumes"]), names(&container["volumeMounts"]));
    let volume = |kind: &str| {
        let volumes = pod["volumes"].as_array().unwrap();
        volumes.iter().find(|volume| volume.get(kind).is_some()).unwrap()[kind].clone()
    };
    assert_eq!(volume("configMap")["name"], of("ConfigMap")["metadata"]["name"]);
    assert_eq!(volume("secret")["secretName"], of("Secret")["metadata"]["name"]);
    let security = &container["securityContext"];
    let added: BTreeSet<String> = words(&security["capabilities"]["add"]).into_iter().collect();
    assert_eq!(added, capabilities());
    assert_eq!(
        (&security["privileged"], &security["capabilities"]["drop"]),
        (&json!(false), &json!(["ALL"]))
    );

    let text = of("ConfigMap")["data"]["pyapm.toml"].as_str().unwrap();
    check_configuration("packaging/kubernetes/pyapm.yaml", text);
    let configuration: toml::Table = text.parse().unwrap();
    let port = configuration["prometheus"]["listen"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    assert_eq!(container["ports"][0]["containerPort"].to_string(), port);
    assert_eq!(set["template"]["metadata"]["annotations"]["prometheus.io/port"], port.as_str());
    let mounts = container["volumeMounts"].as_array().unwrap();
    let mounted = |path: &str| {
        mounts.iter().any(|mount| path.starts_with(&format!("{}/", mount["mountPath"].as_str().unwrap())))
    };
    assert!(mounted(configuration["prometheus"]["token_file"].as_str().unwrap()));
    // Where the defaults write to.
    for path in ["/run/pyapm/pyapm.sock", "/var/lib/pyapm/history.db", "/etc/pyapm/pyapm.toml"] {
        assert!(mounted(path), "{path}");
    }
    check_arguments("args", &words(&container["args"]));
    let probe = words(&container["livenessProbe"]["exec"]["command"]);
    assert_eq!(probe[0], "pyapm");
    let asking = [&probe[1..], &["--socket".to_owned(), "/run/pyapm/pyapm.sock".to_owned()]].concat();
    check_arguments("livenessProbe", &asking);
}

#[test]
fn the_image_and_its_page_ask_for_the_same() {
    let file = read("packaging/docker/Dockerfile");
    let instruction = |name: &str| -> Vec<String> {
        let lines = file.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        lines.map(str::to_owned).collect()
    };
    for line in file.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let word = line.split(' ').next().unwrap();
        let known = ["FROM", "COPY", "RUN", "VOLUME", "STOPSIGNAL", "ENTRYPOINT", "CMD"];
        assert!(known.contains(&word), "{line}");
    }
    for copied in instruction("COPY") {
        let source = copied.split(' ').next().unwrap();
        // The package is put there by the reader.
        let is_there = place::root().join("packaging/docker").join(source).is_file();
        assert!(is_there || source == "pyapm.deb", "{copied}");
    }
    assert_eq!(instruction("ENTRYPOINT"), ["[\"/usr/bin/pyapm\"]"]);
    let command: Value = serde_json::from_str(&instruction("CMD")[0]).unwrap();
    check_arguments("CMD", &words(&command));
    let page = read("docs/deployment/docker.md");
    let given: BTreeSet<String> = page
        .split("--cap-add ")
        .skip(1)
        .map(|rest| rest.split_whitespace().next().unwrap().to_owned())
        .collect();
    assert_eq!(given, capabilities());
    for needed in ["--pid host", "--cap-drop ALL", "--read-only", "apparmor=unconfined"] {
        assert!(page.contains(needed), "{needed}");
    }
}

#[test]
fn the_collector_has_what_its_pipelines_name() {
    let [collector] = &yaml(&read("packaging/opentelemetry/collector.yaml"))[..] else { panic!() };
    let mut used = BTreeMap::<&str, BTreeSet<String>>::new();
    for (name, pipeline) in collector["service"]["pipelines"].as_object().unwrap() {
        assert!(["traces", "metrics", "logs"].contains(&name.as_str()), "{name}");
        for kind in ["receivers", "processors", "exporters"] {
            used.entry(kind).or_default().extend(words(&pipeline[kind]));
        }
    }
    for (kind, used) in used {
        let defined: BTreeSet<String> = collector[kind].as_object().unwrap().keys().cloned().collect();
        assert_eq!(used, defined, "{kind}");
    }
    let configuration: toml::Table = read("packaging/opentelemetry/pyapm.toml").parse().unwrap();
    let listens = collector["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"].as_str().unwrap();
    assert_eq!(configuration["otlp"]["endpoint"].as_str(), Some(format!("http://{listens}").as_str()));
}

/// Every series that a page for Prometheus can have, with its labels, from `docs/metrics.md`.
fn series() -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeMap::new();
    for line in read("docs/metrics.md").lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ["", _, name, kind @ ("counter" | "gauge" | "histogram"), _, attributes, _, ""] = cells[..]
        else {
            continue;
        };
        let name = name.trim_matches('`');
        let own = attributes.split(", ").map(|label| label.trim_matches('`').replace('.', "_"));
        let labels: BTreeSet<String> =
            own.chain(["service_name", "instance", "job"].map(str::to_owned)).collect();
        if kind == "histogram" {
            let with_bound: BTreeSet<String> = labels.iter().cloned().chain(["le".to_owned()]).collect();
            all.insert(format!("{name}_bucket"), with_bound);
            all.insert(format!("{name}_sum"), labels.clone());
            all.insert(format!("{name}_count"), labels);
        } else {
            all.insert(name.to_owned(), labels);
        }
    }
    assert!(all.len() > 50, "{all:?}");
    all.insert("up".to_owned(), ["instance", "job"].map(str::to_owned).into());
    all
}

/// Names of metrics and of labels in an expression.
fn parts(expression: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    const WORDS: [&str; 9] = ["by", "without", "and", "or", "unless", "on", "ignoring", "bool", "offset"];
    let (mut metrics, mut labels) = (BTreeSet::new(), BTreeSet::new());
    let (mut in_text, mut in_range, mut in_matchers, mut in_labels) = (false, false, false, false);
    let mut last = String::new();
    let letters: Vec<char> = expression.chars().collect();
    let mut at = 0;
    while let Some(letter) = letters.get(at).copied() {
        at += 1;
        match letter {
            '"' => in_text = !in_text,
            _ if in_text => {}
            '[' => in_range = true,
            ']' => in_range = false,
            _ if in_range => {}
            '{' => in_matchers = true,
            '}' => in_matchers = false,
            '(' => in_labels = ["by", "without", "on", "ignoring"].contains(&last.as_str()),
            ')' => in_labels = false,
            _ if letter.is_ascii_alphabetic() || letter == '_' => {
                let begun = at - 1;
                while letters.get(at).is_some_and(|next| next.is_ascii_alphanumeric() || *next == '_') {
                    at += 1;
                }
                last = letters[begun..at].iter().collect();
                // A function, or an aggregation: `sum (x)`, `sum by (y) (x)`.
                let next: String = letters[at..].iter().collect();
                let is_call =
                    ["(", "by ", "by(", "without"].iter().any(|word| next.trim_start().starts_with(word));
                if in_matchers || in_labels {
                    labels.insert(last.clone());
                } else if !is_call && !WORDS.contains(&last.as_str()) {
                    metrics.insert(last.clone());
                }
                continue;
            }
            _ => {}
        }
        if !letter.is_whitespace() {
            last.clear();
        }
    }
    (metrics, labels)
}

fn check_expression(of: &str, expression: &str, series: &BTreeMap<String, BTreeSet<String>>) {
    let (metrics, labels) = parts(expression);
    assert!(!metrics.is_empty(), "{of}: no metric in `{expression}`");
    for metric in &metrics {
        assert!(series.contains_key(metric), "{of}: there is no `{metric}`: {expression}");
    }
    for label in &labels {
        let is_known = metrics.iter().any(|metric| series[metric].contains(label));
        assert!(is_known, "{of}: no label `{label}`: {expression}");
    }
}

fn promtool(arguments: &[&str]) {
    let output = Command::new(place::system_program("promtool").unwrap()).args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn metrics_and_labels_of_an_expression_are_told_apart() {
    let (metrics, labels) = parts(
        "histogram_quantile(0.95, sum by (a, le) (rate(x_bucket{b=~\"y|$z\",c!=\"\"}[5m]))) > 1 and on (d) up == bool 0",
    );
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!((metrics, labels), (set(&["x_bucket", "up"]), set(&["a", "b", "c", "d", "le"])));
}

#[test]
fn every_query_of_the_dashboard_is_valid_and_about_metrics_that_there_are() {
    let dashboard: Value = serde_json::from_str(&read("packaging/grafana/pyapm.json")).unwrap();
    let series = series();
    let mut rules = Vec::new();
    let mut numbers = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(numbers.insert(panel["id"].as_u64().unwrap()), "{title}: its number is taken");
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            check_expression(title, expression, &series);
            let set = expression
                .replace("$__rate_interval", "5m")
                .replace("$__range", "1h")
                .replace("$service", ".*")
                .replace("$instance", ".*");
            assert!(!set.contains('$'), "{title}: {set}");
            rules.push(json!({ "record": format!("dashboard:{}", rules.len()), "expr": set }));
            // Legends are made of labels that the result has.
            let legend = target["legendFormat"].as_str().unwrap_or_default();
            let (_, labels) = parts(expression);
            for label in legend.split("{{").skip(1).filter_map(|rest| rest.split("}}").next()) {
                let all_kept = !expression.contains(" by ");
                assert!(all_kept || labels.contains(label), "{title}: `{label}` is not in {expression}");
            }
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let Some(query) = variable["definition"].as_str() else { continue };
        let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).unwrap();
        let (metric, label) = inner.split_once(", ").unwrap();
        assert!(series[metric].contains(label), "{query}");
    }
    assert!(rules.len() > 40, "{}", rules.len());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.yml");
    // JSON is YAML.
    let text = json!({ "groups": [{ "name": "dashboard", "rules": rules }] }).to_string();
    std::fs::write(&file, text).unwrap();
    promtool(&["check", "rules", file.to_str().unwrap()]);
}

#[test]
fn the_rules_are_valid_and_about_metrics_that_there_are() {
    let root = place::root();
    // Which looks at the rules that it names, too.
    promtool(&["check", "config", root.join("packaging/prometheus/prometheus.yml").to_str().unwrap()]);
    let [file] = &yaml(&read("packaging/prometheus/alerts.yml"))[..] else { panic!() };
    let series = series();
    let mut checked = 0;
    for rule in file["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap())
    {
        let (name, expression) = (rule["alert"].as_str().unwrap(), rule["expr"].as_str().unwrap());
        check_expression(name, expression, &series);
        let summary = rule["annotations"]["summary"].as_str().unwrap();
        for label in summary.split("$labels.").skip(1).filter_map(|rest| rest.split(' ').next()) {
            let (metrics, labels) = parts(expression);
            let kept =
                !expression.contains(" by ") && metrics.iter().any(|name| series[name].contains(label));
            assert!(kept || labels.contains(label), "{name}: `{label}` is not in the result");
        }
        checked += 1;
    }
    assert!(checked > 10, "{checked}");
}
