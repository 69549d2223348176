// Builds the page that draws one dashboard; its data comes from draw.mjs.
import { defineConfig } from 'vite';

export default defineConfig({ build: { chunkSizeWarningLimit: 20000 } });
