// Words whose contrast with what is behind them is below 4.5 to 1, or 3 to 1 if bold (WCAG 2.2, 1.4.3).
part => {
    const parse = text => text.match(/[0-9.]+/g).map(Number);
    const light = ([red, green, blue]) => [red, green, blue].map(value => value / 255)
        .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
        .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
    const behind = element => {
        for (let place = element; place; place = place.parentElement) {
            const colour = parse(getComputedStyle(place).backgroundColor);
            if (colour.length < 4 || colour[3] > 0.5) return colour;
        }
        return [255, 255, 255];
    };
    const faint = [];
    const texts = document.createTreeWalker(part, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const element = texts.currentNode.parentElement, words = texts.currentNode.textContent.trim();
        // A selected row of the grid is coloured by a shadow, which is no background.
        const passed_over = "style, script, option, svg, .jp-OutputPrompt, :disabled, .disabled, tr.selected";
        if (!words || !element.checkVisibility() || element.closest(passed_over)) continue;
        const style = getComputedStyle(element);
        const [one, other] = [light(parse(style.color)), light(behind(element))];
        const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        if (ratio < (style.fontWeight >= 700 ? 3 : 4.5)) faint.push(`${words}: ${ratio.toFixed(1)}`);
    }
    return faint;
}
