//! What pillion says of itself, read from `/metrics` as Prometheus would.

/// One scrape.
#[derive(Debug)]
pub(super) struct Scrape(String);

impl Scrape {
    pub(super) const fn new(text: String) -> Self {
        Self(text)
    }

    /// The sum of all series of `name` that have these labels. 0 if there is none.
    pub(super) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.0
            .lines()
            .filter_map(|line| {
                let series = line.strip_prefix(name)?;
                let (labelled, value) = series.rsplit_once(' ')?;
                let is_name = labelled.is_empty() || labelled.starts_with('{');
                let is_labelled = labels
                    .iter()
                    .all(|(label, value)| labelled.contains(&format!("{label}=\"{value}\"")));
                value.parse::<f64>().ok().filter(|_| is_name && is_labelled)
            })
            .fold(0.0, |sum, value| sum + value)
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_name_and_label() {
        let scrape = Scrape::new(
            "# TYPE a_total counter\na_total{route=\"/x/{y}\",action=\"b\"} 2\n\
             a_total{route=\"/x/{y}\",action=\"c\"} 3\na_total_more 7\nplain 4\n"
                .to_owned(),
        );
        let sum = |name, labels| scrape.sum(name, labels).to_string();
        assert_eq!(sum("a_total", &[]), "5");
        assert_eq!(sum("a_total", &[("route", "/x/{y}"), ("action", "c")]), "3");
        assert_eq!(sum("plain", &[]), "4");
        assert_eq!(sum("absent", &[]), "0");
    }
}
