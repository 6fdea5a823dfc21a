export default { allowedDevOrigins: ["*.localhost"], devIndicators: false };
